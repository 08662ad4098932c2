"""Modality Worklist C-FIND (PS3.4 Annex K), without a socket: identifier in, answers out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter
from typing import Any, Final

import structlog

from broker.dicom import dimse
from broker.dicom.dimse import (
    CANCELLED,
    IDENTIFIER_DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    SUCCESS,
    UNABLE_TO_PROCESS,
    DimseRequest,
    Response,
)
from broker.dicom.identifier import UnreadableIdentifier
from broker.modality.answers import Answer, Answers
from broker.modality.candidates import BLOCK, Candidates
from broker.modality.connection import Association
from broker.modality.kept import Kept
from broker.modality.metrics import ModalityMetrics
from broker.modality.plan import Asker, Plan, Plans
from broker.modality.sightings import Tell, Told, tell_nobody
from broker.pacing import Pacing
from broker.store import reads
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist import canary
from broker.worklist.directory import Directory
from broker.worklist.profile import Profile
from broker.worklist.query.narrowing import BY_START
from broker.worklist.rules import AnswerOrder, Overflow

MODALITY_WORKLIST: Final = "1.2.840.10008.5.1.4.31"
BLOCK_BYTES: Final = 128 * 1024

STORE_AWAY: Final = "worklist store is unavailable"
"""The Error Comment of a query that the store kept from its answer."""

log = structlog.get_logger("modality")


class TooMany(Exception):
    """More answers than a scanner may get; the list is never cut in silence."""


class TooOften(Exception):
    """More queries a second than the AE may ask, by more than can be waited for."""


class TooWide(Exception):
    """More steps to look through than there may be."""


@dataclass(frozen=True)
class Find:
    """Answers worklist queries as each calling AE's profile wants it; `today` is the site's.

    A query that no index settles is refused where more than `max_candidates` steps had to be looked
    through. `tell` hears of every query when it is over.
    """

    store: AsyncStore
    metrics: ModalityMetrics
    directory: Directory
    today: Callable[[], date]
    tell: Tell = tell_nobody
    max_candidates: int = 20_000
    plans: Plans = field(default_factory=Plans)
    pacing: Pacing = field(default_factory=Pacing)
    answers: Answers = field(init=False)
    candidates: Candidates = field(init=False)

    def __post_init__(self) -> None:
        plans, answers = self.plans, Answers(self.store, self.metrics.left_out)
        object.__setattr__(self, "answers", answers)
        object.__setattr__(self, "candidates", Candidates(self.store, answers.heed_reconnection))
        kept: dict[str, Kept[Any, Any]] = {"plans": plans.plans, "shapes": plans.shapes}
        kept |= {"answers": answers.encoded, "facts": answers.facts, "steps": answers.steps}
        self.metrics.watch(kept)

    async def __call__(
        self, request: DimseRequest, association: Association
    ) -> AsyncIterator[Response | dimse.Answers]:
        """Give the pending answers in the order that the AE wants, then the final status."""
        began, final = perf_counter(), Response(UNABLE_TO_PROCESS)
        query, answered = None, list[bytes]()
        profile = self.directory.profile(association.calling, association.address)
        try:
            await self._turn(association, profile)
            plan = self._plan(request, association, profile)
            query = plan.query
            async with aclosing(self._blocks(plan)) as blocks:
                async for portion in blocks:
                    yield dimse.Answers(plan.status, [answer.data for answer in portion])
                    answered += [answer.member for answer in portion]
            final = Response(SUCCESS)
        except GeneratorExit:
            final = Response(CANCELLED)
            raise
        except UnreadableIdentifier as fault:
            offending = (fault.tag,) if fault.tag else ()
            final = Response(
                IDENTIFIER_DOES_NOT_MATCH, error_comment=fault.fact, offending=offending
            )
        except StoreUnavailable as problem:
            log.error("store unavailable", problem=f"{problem}", calling=association.calling)
            final = Response(OUT_OF_RESOURCES, error_comment=STORE_AWAY)
        except (TooMany, TooOften, TooWide) as limit:
            log.error("list refused", calling=association.calling, reason=f"{limit}")
            final = Response(OUT_OF_RESOURCES, error_comment=f"{limit}")
        finally:
            if association.calling != canary.AE:
                facts = final.status, len(answered), perf_counter() - began
                self.metrics.find(*facts)
                self.metrics.asked(profile.title, association.calling, *facts)
            syntax = request.transfer_syntax
            asked = (request.dataset or b"", syntax, query, final.status, answered)
            self.tell(Told(association, profile, *asked))
        yield final

    async def _turn(self, association: Association, profile: Profile) -> None:
        """Wait where this AE asks too often; who is not in the directory counts by its address."""
        if (a_second := profile.rules.queries_per_second) is None:
            return
        who = profile.title or association.address
        wait_s = self.pacing.wait_s(who, a_second, asyncio.get_running_loop().time())
        if wait_s is None:
            raise TooOften(f"more than {a_second:g} queries a second")
        await asyncio.sleep(wait_s)

    def _plan(self, request: DimseRequest, association: Association, profile: Profile) -> Plan:
        asker = Asker(profile, association.fuzzy, association.zoned)
        plan = self.plans.plan(request.dataset or b"", request.transfer_syntax, asker)
        if plan.unread:
            log.warning("keys passed over", calling=association.calling, keys=list(plan.unread))
        if plan.backwards:
            log.warning(
                "range ends before it begins",
                calling=association.calling,
                keys=list(plan.backwards),
            )
        return plan

    async def _blocks(self, plan: Plan) -> AsyncGenerator[list[Answer]]:
        """Give the answers block by block, as they come where there cannot be too many of them.

        Else none goes out before all are known: a scanner must not take a part for the whole.
        """
        rules, candidates = plan.profile.rules, self.candidates
        first = await candidates.first(plan.narrowing, rules.max_answers)
        if not plan.settled and first.count > self.max_candidates:
            raise TooWide(f"more than {self.max_candidates} steps to look through, add a key")
        in_order = plan.narrowing.kind in BY_START and rules.order is AnswerOrder.START
        if in_order and first.count <= rules.max_answers:
            async with aclosing(self._ahead(plan, first)) as blocks:
                async for block in blocks:
                    for portion in _portions(block):
                        yield portion
            return
        whole = await (self._in_order(plan, first) if in_order else self._sorted(plan, first))
        whole = self._within_limit(plan, whole)
        for at in range(0, len(whole), BLOCK):
            if at:
                await asyncio.sleep(0)  # others, and a C-CANCEL, get their turn
            for portion in _portions(whole[at : at + BLOCK]):
                yield portion

    async def _ahead(self, plan: Plan, first: reads.Members) -> AsyncGenerator[list[Answer]]:
        """Give the answers of each slice in turn; while one is encoded, the next one is read."""
        ahead: deque[list[Answer] | asyncio.Task[list[Answer]]] = deque()
        try:
            async with aclosing(self.candidates.slices(first)) as slices:
                async for members in slices:
                    block = self.answers.of(plan, members, self.today())
                    ahead.append(block if isinstance(block, list) else asyncio.create_task(block))
                    if len(ahead) > 1:
                        yield await _given(ahead.popleft())
            while ahead:
                yield await _given(ahead.popleft())
        finally:
            for left in ahead:
                if isinstance(left, asyncio.Task):
                    left.cancel()
                    left.add_done_callback(_unheard)

    async def _in_order(self, plan: Plan, first: reads.Members) -> list[Answer]:
        """Give the answers of an index by start, up to one too many."""
        found: list[Answer] = []
        async for members in self.candidates.slices(first):
            found += await _given(self.answers.of(plan, members, self.today()))
            if len(found) > plan.profile.rules.max_answers:
                break
        return found

    async def _sorted(self, plan: Plan, first: reads.Members) -> list[Answer]:
        """Give the answers of another index, or in another order; all, or one too many."""
        rules, today = plan.profile.rules, self.today()
        found: dict[bytes, Answer] = {}
        async for members in self.candidates.slices(first):
            for answer in await self.answers.matching(plan, members, today):
                # A name has groups; and what changes meanwhile may come again, in its new version.
                found[reads.stood(answer.member).member] = answer
            if len(found) > rules.max_answers and rules.over_limit is not Overflow.CUT:
                break
        return sorted(found.values())

    def _within_limit(self, plan: Plan, found: list[Answer]) -> list[Answer]:
        """Refuse or cut a list that is too long. Raises TooMany."""
        rules = plan.profile.rules
        if len(found) <= rules.max_answers:
            return found
        self.metrics.overflow(rules.over_limit.value)
        if rules.over_limit is not Overflow.CUT:
            raise TooMany(f"more than {rules.max_answers} answers, narrow the query")
        log.warning("list cut", calling=plan.profile.title, limit=rules.max_answers)
        return found[: rules.max_answers]


def _unheard(task: asyncio.Task[list[Answer]]) -> None:
    """Nobody waits for it any more: what it failed of is told by the one before it."""
    if not task.cancelled():
        task.exception()


async def _given(block: list[Answer] | Awaitable[list[Answer]]) -> list[Answer]:
    return block if isinstance(block, list) else await block


def _portions(block: list[Answer]) -> Iterator[list[Answer]]:
    """Part a block of long answers, so that a C-CANCEL comes between them."""
    portion: list[Answer] = []
    size = 0
    for answer in block:
        if portion and size + len(answer.data) > BLOCK_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(answer)
        size += len(answer.data)
    if portion:
        yield portion
