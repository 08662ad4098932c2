"""Whole messages as a RIS writes them, judged by the shipped mappings on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import count
from typing import Any, TypeVar

from broker.hl7.acknowledgement import read_acknowledgement
from broker.orders.intake import Intake
from broker.store.archive import Archived
from broker.store.archive import newest as newest_messages
from broker.store.executors import Store
from broker.store.reads import members, orders, stood
from broker.worklist.query.narrowing import Narrowing
from broker.worklist.records import LISTED, items
from tests.orders.test_batches import opened

T = TypeVar("T")
PID = "PID|1||4711^^^NORTH^MR||DOE^JANE||19700101|F"
_IDS = count(1)


def hl7(
    kind: str, *segments: str, sent: str = "20260316120000", sender: str = "RIS|NORTH"
) -> bytes:
    """A message of these segments, with a control ID of its own."""
    control_id = f"S{next(_IDS):05d}"
    head = f"MSH|^~\\&|{sender}|B|R|{sent}||{kind}|{control_id}|P|2.3.1"
    return "\r".join([head, *segments, ""]).encode()


def orc(control: str = "NW", status: str = "", placer: str = "P1", filler: str = "F1") -> str:
    return f"ORC|{control}|{placer}|{filler}||{status}||^^^20260317093000"


def obr(
    accession: str = "A1",
    procedure: str = "",
    step: str = "",
    *,
    code: str = "CTHEAD^CT head^L",
    modality: str = "CT",
    numbers: str = "|",
) -> str:
    """OBR with OBR-2|OBR-3, 4, 18 (accession), 19 (procedure ID), 20 (step ID) and 24."""
    between = "|" * 14
    return f"OBR|1|{numbers}|{code}{between}{accession}|{procedure}|{step}||||{modality}"


class Ris:
    """Sends to an intake of this process; `lines` is what scanners see then."""

    def __init__(self, url: str, **settings: Any) -> None:
        """`settings` are those of broker.yaml."""
        self.store = Store(url)
        self._runner = asyncio.Runner()
        self._opened = opened(url, **settings)
        self.intake: Intake = self.run(self._opened.__aenter__())

    def run(self, doing: Awaitable[T]) -> T:
        """Let something happen in the loop of the intake."""

        async def bounded() -> T:
            return await asyncio.wait_for(doing, 50)

        return self._runner.run(bounded())

    def close(self) -> None:
        self.run(self._opened.__aexit__(None, None, None))
        self._runner.close()
        self.store.close()

    def emptied(self) -> Ris:
        """The same on an empty store."""
        self.store.redis.flushall()
        return self

    def send(self, *messages: bytes) -> list[str]:
        """MSA-1 of each message, sent one after the other."""
        return [read_acknowledgement(payload).code for payload in self.answers(*messages)]

    def answers(self, *messages: bytes) -> list[bytes]:
        """The answer to each message, sent one after the other."""
        taken = [self.run(self.intake.accept(message)) for message in messages]
        return [payload for payloads in taken for payload in payloads or ()]

    def lines(self, *keywords: str) -> list[tuple[str, ...]]:
        """These attributes of every line that a scanner would be told, sorted."""
        open_steps = self.store.run(members(Narrowing("start"))).found
        keys = sorted({stood(member).order for member in open_steps})
        known = self.store.run(orders(keys)).known
        shown = []
        for order in known.orders.values():
            for item in items(order, known.patients[order.patient]):
                if item.step.status in LISTED:
                    flat = {
                        **item.attributes,
                        **item.attributes["ScheduledProcedureStepSequence"][0],
                    }
                    shown.append(tuple(str(flat.get(keyword, "")) for keyword in keywords))
        return sorted(shown)

    def archived(self, limit: int = 1) -> list[Archived]:
        """The newest messages of the archive, newest first."""
        return self.store.run(newest_messages(limit))
