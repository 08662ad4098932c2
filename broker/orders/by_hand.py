"""What a person does to orders while the RIS is away, by the rules and the commit of messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from broker.orders.intake import ATTEMPTS, Intake
from broker.orders.news import News
from broker.store import keys, reads
from broker.store.archive import BY_HAND, Archived
from broker.store.commit import Change as Changed
from broker.store.commit import Commit, Committed, Conflict, commit
from broker.store.consequences import changed, consequences
from broker.store.executors import StoreUnavailable
from broker.store.outbox import Event
from broker.worklist import downtime
from broker.worklist.applied import Applied, Sender
from broker.worklist.apply import apply_all
from broker.worklist.changes import Action, Change
from broker.worklist.downtime import Impossible
from broker.worklist.finding import Known, Wanted, wanted
from broker.worklist.identity import joined, parted
from broker.worklist.linking import Linked, linked
from broker.worklist.meant import BY_NUMBER
from broker.worklist.mpps import IN_PROGRESS
from broker.worklist.persons import reaches_orders
from broker.worklist.records import Order
from broker.worklist.staleness import stamp

SENDER: Final = "broker|by hand"
"""Among the clocks of senders that of people."""


@dataclass(frozen=True)
class Act:
    """What is done, by whom and why; `said` is kept with it in the archive."""

    verb: str
    operator: str
    reason: str
    said: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Done:
    """What became of it, or would; `events` are all messages to RISs that follow."""

    orders: tuple[Order, ...]
    changes: tuple[Changed, ...]
    events: tuple[Event, ...]
    notes: tuple[str, ...]


class _Made(NamedTuple):
    applied: Applied
    exams: Sequence[Linked] = ()
    aliases: tuple[tuple[str, str, str], ...] = ()


Make = Callable[[reads.Read, int], _Made]


async def add(intake: Intake, act: Act, change: Change, issuer: str, *, write: bool) -> Done:
    """Add an order; without `write` only show. Raises Refused, Impossible."""

    def make(read: reads.Read, taken: int) -> _Made:
        known = replace(read.known, given=read.known.given + taken)
        key = joined(issuer, str(change.attributes.get("AccessionNumber") or ""))
        if known.order(key):
            raise Impossible("there is an order of this accession number: broker edit")
        return _applied(intake, [change], read, known, issuer)

    return await _decided(intake, act, _wanted([change], issuer), make, write=write)


async def change(
    intake: Intake, act: Act, order: Order, changes: Sequence[Change], *, write: bool
) -> Done:
    """Change an order that is there; without `write` only show. Raises Refused, Impossible."""
    issuer = order.issuer

    def make(read: reads.Read, _: int) -> _Made:
        stood = read.known.order(order.key)
        if stood is None:
            raise Impossible("it is gone")
        made = _applied(intake, changes, read, read.known, issuer)
        _refuse_nothing(stood, made.applied, changes)
        return made

    return await _decided(intake, act, _wanted(changes, issuer), make, write=write)


async def reconcile(
    intake: Intake, act: Act, typed: Order, real: Order, step_id: str, *, write: bool
) -> Done:
    """Put the RIS's order in the place of one that was typed by hand. Raises Impossible."""
    person = {"PatientID": parted(real.patient)[-1], "IssuerOfPatientID": parted(real.patient)[0]}
    several = typed.patient != real.patient
    merge = [downtime.identified(typed, person)] if several else []
    people = (typed.patient, real.patient) if several else ()
    everything = Wanted((typed.key, real.key), people, (), bool(people))

    def make(read: reads.Read, _: int) -> _Made:
        applied = _applied(intake, merge, read, read.known, real.issuer).applied
        known = applied.known
        mine, other = known.order(typed.key), known.order(real.key)
        if not mine or not other:
            raise Impossible("one of them is gone")
        moved = downtime.reconciled(
            mine, other, step_id, read.exams.values(), known, intake.rules, act.operator
        )
        aliases = (("order", typed.key, real.key),)
        return _Made(replace(applied, known=moved.known), moved.exams, aliases)

    return await _decided(intake, act, everything, make, write=write, exams_of=typed.key)


def _refuse_nothing(stood: Order, applied: Applied, changes: Sequence[Change]) -> None:
    """Say why nothing would change, or nothing before a scanner ends its exam."""
    after = applied.known.order(stood.key)
    completes = any(each.action is Action.COMPLETE for each in changes)
    if completes and any(IN_PROGRESS in step.performed.values() for _, step in stood.steps()):
        raise Impossible("its exam runs: end it at the scanner, or by broker mpps close")
    same = after is not None and after.procedures == stood.procedures
    if same and all(each.action in BY_NUMBER for each in changes):
        states = ", ".join(dict.fromkeys(step.status.value for _, step in stood.steps()))
        raise Impossible(f"nothing would change: it is {states}")


def _wanted(changes: Sequence[Change], issuer: str) -> Wanted:
    return wanted(
        (each.attributes for each in changes),
        issuer,
        orders_of_patients=any(reaches_orders(each) for each in changes),
        namesakes=any(each.action in BY_NUMBER for each in changes),
        given=any(each.numbering for each in changes),
    )


def _applied(
    intake: Intake, changes: Sequence[Change], read: reads.Read, known: Known, issuer: str
) -> _Made:
    if not changes:
        return _Made(Applied(known))
    now = stamp(intake.clock())
    sender = Sender(SENDER, issuer, now, received=now, by_hand=True)
    applied = apply_all(changes, known, sender)
    found = linked(applied.known, read.exams.values(), intake.rules)
    if found:
        applied = replace(applied, known=found[-1].moments[-1].after)
    return _Made(applied, found)


async def _decided(
    intake: Intake,
    act: Act,
    everything: Wanted,
    make: Make,
    *,
    write: bool,
    exams_of: str = "",
) -> Done:
    """Read, decide and commit, once more when a message has changed the same records meanwhile."""
    taken = 0
    for _ in range(ATTEMPTS):
        read = await intake.read(everything)
        if exams_of:
            read = await _with_exams(intake, read, exams_of)
        at = intake.clock()
        made = _noted(make(read, taken), read, act, at)
        done = _told(intake, made, read, at)
        if not write or not done.orders:
            return done
        outcome = await intake.store.run(
            commit(_commit(intake, act, everything, read, made, done, at))
        )
        if isinstance(outcome, Committed):
            return done
        # A number of ours that somebody has given already is passed over.
        held = isinstance(outcome, Conflict) and outcome.key.startswith(keys.order(""))
        taken += held and everything.given
    raise StoreUnavailable("messages kept changing the same records")


async def _with_exams(intake: Intake, read: reads.Read, key: str) -> reads.Read:
    """Read the exams of an order as well."""
    order = read.known.order(key)
    uids = [uid for _, step in order.steps() for uid in step.performed] if order else []
    exams, revisions = dict(read.exams), dict(read.revisions)
    for uid in uids:
        exam, revision = await intake.store.run(reads.mpps(uid))
        if exam is not None:
            exams[uid], revisions[keys.mpps(uid)] = exam, revision
    return replace(read, exams=exams, revisions=revisions)


def _noted(made: _Made, read: reads.Read, act: Act, at: datetime) -> _Made:
    """Keep with every order that changes who did what, and why."""
    why = f"{at:%Y-%m-%d %H:%M} {act.verb} by {act.operator}: {act.reason}"
    known = made.applied.known
    for key, order in made.applied.known.orders.items():
        if order is not read.known.orders.get(key):
            known = known.with_order(downtime.noted(order, why))
    return made._replace(applied=replace(made.applied, known=known))


def _told(intake: Intake, made: _Made, read: reads.Read, at: datetime) -> Done:
    news, after = News(intake.current.mappings, intake.ris, at), made.applied.known
    cause = f"{SENDER} {at.timestamp()}"
    events = (
        *news.unable(made.applied, cause),
        *news.exams(made.exams),
        *news.ended(read.known, after, cause),
    )
    before = read.known.orders
    orders = tuple(order for key, order in after.orders.items() if order is not before.get(key))
    return Done(orders, tuple(changed(read, made.applied)), events, made.applied.notes)


def _commit(
    intake: Intake,
    act: Act,
    everything: Wanted,
    read: reads.Read,
    made: _Made,
    done: Done,
    at: datetime,
) -> Commit:
    wanted_ = consequences(
        everything,
        read,
        made.applied,
        at=at,
        keep=intake.keep,
        archived=_archived(act, done, at),
        events=done.events,
        exams=[each.exam for each in made.exams],
    )
    aliases = (*wanted_.aliases, *made.aliases)
    return replace(wanted_, aliases=aliases, alias_keep_s=int(intake.keep.alias.total_seconds()))


def _archived(act: Act, done: Done, at: datetime) -> Archived:
    return Archived(
        source=f"broker|{act.operator}",
        control_id="",
        message_type=act.verb,
        outcome=BY_HAND,
        cause=act.reason,
        received=at.timestamp(),
        orders=tuple(order.key for order in done.orders),
        mapping="",
        raw=f"{act.verb} {json.dumps(act.said, ensure_ascii=False)}".encode(),
    )
