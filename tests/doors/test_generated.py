"""Orders that come without an accession number: one of ours, given once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier
from typing import Any

import pytest

from tests.doors.actors import CONFIG, Answer, Broker, Line, find, send, until

pytestmark = pytest.mark.peer("redis-server")

# The corpus has a referral of the day before, GP77, for the same broker.
_NUMBERS = count(1)


class Referral:
    """A practice's order under a placer number that fits no accession number."""

    def __init__(self) -> None:
        self.number = next(_NUMBERS)
        self.placer = f"PRACTICE12-20260317-{self.number:07d}"
        self.patient = f"REF{self.number:05d}"

    def message(self, control: str = "NW", *, accession: str = "", minute: int = 10) -> bytes:
        """One message about it, under a control id of its own."""
        obr = ["OBR", "1", f"{self.placer}^GPLINK", "", "71046^Radiologic exam chest 2 views^C4"]
        obr += [""] * 13 + [accession]
        lines = [
            f"MSH|^~\\&|GPLINK|PRACTICE12|MWL|CITYHOSP|202603161{minute:02d}10||ORM^O01"
            f"|REF{next(_NUMBERS)}|P|2.4",
            f"PID|1||{self.patient}^^^PRACTICE12||STOBART^IDRIS{self.number}||19660430|M",
            f"ORC|{control}|{self.placer}^GPLINK",
            "|".join(obr),
        ]
        return "\r".join([*lines, ""]).encode()


def listed(broker: Broker, referral: Referral) -> list[dict[str, Any]]:
    return find(broker, patient_id=referral.patient)


def number_of(broker: Broker, referral: Referral) -> str:
    """The accession number of the one entry that it has."""
    (item,) = listed(broker, referral)
    number: str = item["AccessionNumber"]
    assert number.startswith("REF-")
    assert len(number) == len("REF-26-000001")
    return number


def taken(answer: Answer) -> None:
    assert answer.code == "AA", answer.raw


def test_the_first_message_gets_a_number_and_every_later_one_keeps_it(broker: Broker) -> None:
    referral, other = Referral(), Referral()
    taken(send(broker.hl7, referral.message()))
    number = number_of(broker, referral)
    for control in ("NW", "XO", "NW"):
        taken(send(broker.hl7, referral.message(control, minute=20)))
        assert number_of(broker, referral) == number
    taken(send(broker.hl7, other.message()))
    assert number_of(broker, other) != number
    (item,) = listed(broker, referral)
    taken(send(broker.hl7, referral.message("CA", minute=30)))
    assert listed(broker, referral) == []
    assert item["StudyInstanceUID"].startswith("2.25.")


def test_an_update_that_comes_before_its_order_has_the_number_already(broker: Broker) -> None:
    referral = Referral()
    taken(send(broker.hl7, referral.message("XO")))
    number = number_of(broker, referral)
    taken(send(broker.hl7, referral.message("NW", minute=20)))
    assert number_of(broker, referral) == number


def test_first_messages_on_many_connections_at_once_agree_on_one_number(broker: Broker) -> None:
    def at_once(messages: list[bytes]) -> None:
        gate = Barrier(len(messages))

        def one(message: bytes) -> Answer:
            with Line(broker.hl7) as line:
                gate.wait(10)
                return line.send(message)

        with ThreadPoolExecutor(len(messages)) as pool:
            for answer in pool.map(one, messages):
                taken(answer)

    for _ in range(5):
        same = Referral()
        at_once([same.message() for _ in range(6)])
        number_of(broker, same)
    several = [Referral() for _ in range(12)]
    at_once([each.message() for each in several])
    assert len({number_of(broker, each) for each in several}) == len(several)


def test_a_number_that_a_sender_has_given_itself_is_passed_over(broker: Broker) -> None:
    before, by_sender, after = Referral(), Referral(), Referral()
    taken(send(broker.hl7, before.message()))
    number = number_of(broker, before)
    following = f"{number[:-6]}{int(number[-6:]) + 1:06d}"
    taken(send(broker.hl7, by_sender.message(accession=following)))
    taken(send(broker.hl7, after.message()))
    assert number_of(broker, by_sender) == following
    assert number_of(broker, after) not in (number, following)


def test_an_accession_number_that_is_assigned_later_takes_its_place(broker: Broker) -> None:
    referral = Referral()
    taken(send(broker.hl7, referral.message()))
    former = number_of(broker, referral)
    assigned = f"CITY{referral.number:06d}"
    taken(send(broker.hl7, referral.message("XO", accession=assigned, minute=20)))
    (item,) = listed(broker, referral)
    assert item["AccessionNumber"] == assigned
    taken(send(broker.hl7, referral.message("NW", minute=30)))
    (item,) = listed(broker, referral)
    assert item["AccessionNumber"] == assigned != former


def test_without_any_order_number_nothing_is_generated_and_nothing_stored(broker: Broker) -> None:
    referral = Referral()
    nameless = referral.message().replace(f"{referral.placer}^GPLINK".encode(), b"")
    answer = send(broker.hl7, nameless)
    assert answer.code == "AE"
    assert "101" in answer.error
    assert "ORC" in answer.error
    assert listed(broker, referral) == []


def test_numbers_outlive_a_restart(new_broker: Callable[..., Broker]) -> None:
    broker = new_broker(CONFIG).start()
    first, second = Referral(), Referral()
    taken(send(broker.hl7, first.message()))
    number = number_of(broker, first)
    broker.stop()
    broker.start()
    taken(send(broker.hl7, first.message(minute=20)))
    taken(send(broker.hl7, second.message()))
    assert number_of(broker, first) == number
    assert int(number_of(broker, second)[-6:]) == int(number[-6:]) + 1


PORT_MAPPING = """\
mapping: {name}
extends: ihe-orders
accept: {{senders: ['*|*'], ports: [{port}]}}
attributes:
  MedicalAlerts: {{const: {name}}}
"""


def test_the_port_of_the_listener_chooses_the_mapping(new_broker: Callable[..., Broker]) -> None:
    broker = new_broker(f"{CONFIG}mappings: rules\n")
    rules = broker.folder / "rules"
    rules.mkdir()
    (rules / "all.yaml").write_text("mapping: all\nextends: ihe-orders\n")
    broker.start()
    referral = Referral()

    def judged_by(message: bytes) -> str:
        taken(send(broker.hl7, message))
        newest = broker.archived(1)[0]
        assert newest.port == broker.hl7.port
        return newest.mapping.split("@")[0]

    assert judged_by(referral.message(accession="PORT1")) == "all"
    for name, port in (("here", broker.hl7.port), ("elsewhere", 1)):
        (rules / f"{name}.yaml").write_text(PORT_MAPPING.format(name=name, port=port))
    until(
        lambda: judged_by(referral.message("XO", accession="PORT1", minute=20)) == "here",
        "the mapping for this port",
    )
    (item,) = listed(broker, referral)
    assert item["MedicalAlerts"] == "here"
