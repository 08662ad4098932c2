"""Short words for tests: ask one process of the door, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import date
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from broker.dicom.dimse import Answers, DimseRequest, Response
from broker.dicom.encoding import encode
from broker.dicom.identifier import decode
from broker.dicom.negotiation import IMPLICIT_LITTLE, MODALITY_WORKLIST
from broker.modality.find import Find
from broker.modality.metrics import ModalityMetrics
from broker.modality.reception import Association
from broker.store.executors import AsyncStore
from broker.worklist.attributes import STEPS
from broker.worklist.directory import Directory
from broker.worklist.rules import Rules

TODAY = date(2026, 1, 1)
SCANNER = Association("CT1", "BROKER", "127.0.0.1")


class Answer(NamedTuple):
    """The final status, its comment, and the data sets of the pending responses as sent."""

    status: int
    comment: str
    datasets: list[bytes]
    pending: set[int]

    @property
    def accessions(self) -> list[str]:
        found = (decode(data, IMPLICIT_LITTLE).keys for data in self.datasets)
        return [str(keys["AccessionNumber"]) for keys in found]


class Worklist:
    """C-FIND as one process of the door answers it."""

    def __init__(self, url: str, max_candidates: int = 20_000, **rules: Any) -> None:
        self._runner = asyncio.Runner()
        self._url, self._max_candidates, self._rules = url, max_candidates, Rules(**rules)

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self.find.store.close())
        self._runner.close()

    async def _open(self) -> None:
        self.metrics = ModalityMetrics()
        directory, store = Directory(general=self._rules), AsyncStore(self._url)
        self.find = Find(
            store, self.metrics, directory, lambda: TODAY, max_candidates=self._max_candidates
        )

    def ask(
        self,
        keys: dict[str, Any],
        *,
        syntax: str = IMPLICIT_LITTLE,
        charset: str = "",
        after_first: Callable[[], None] = lambda: None,
    ) -> Answer:
        """One query with these keys; `after_first` is called when the first answers have come."""
        return self._runner.run(self._ask(encode(keys, syntax, charset), syntax, after_first))

    def leave(self, keys: dict[str, Any]) -> int:
        """Go after the first answers of a query; gives how many tasks are left of it."""
        return self._runner.run(self._leave(encode(keys, IMPLICIT_LITTLE)))

    async def _leave(self, identifier: bytes) -> int:
        before = len(asyncio.all_tasks())
        async with aclosing(self._answers(identifier, IMPLICIT_LITTLE)) as answers:
            assert isinstance(await anext(answers), Answers)
        for _ in range(3):  # a cancelled task needs its turns
            await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - before

    def _answers(self, identifier: bytes, syntax: str) -> AsyncGenerator[Response | Answers]:
        uid = MODALITY_WORKLIST
        request = DimseRequest("C-FIND", 1, uid, "", 0, identifier, 1, syntax, uid)
        return cast("AsyncGenerator[Response | Answers]", self.find(request, SCANNER))

    async def _ask(self, identifier: bytes, syntax: str, after_first: Callable[[], None]) -> Answer:
        datasets: list[bytes] = []
        pending: set[int] = set()
        async for response in self._answers(identifier, syntax):
            if isinstance(response, Answers):
                if not datasets:
                    after_first()
                datasets += response.datasets
                pending.add(response.status)
            else:
                return Answer(response.status, response.error_comment, datasets, pending)
        raise AssertionError("no final status")


def of_station(station: str = "CT1", date: str = "20260101", **top: Any) -> dict[str, Any]:
    """The commonest query, with a few keys back."""
    step = {
        "ScheduledStationAETitle": station,
        "ScheduledProcedureStepStartDate": date,
        "ScheduledProcedureStepStartTime": "",
        "Modality": "",
        "ScheduledProcedureStepStatus": "",
    }
    return {"AccessionNumber": "", "PatientName": "", "PatientID": "", **top, STEPS: [step]}
