"""What the groups of a message make of the records: all of them, or none, or the good ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from broker.worklist.applied import Applied, Sender, Unable
from broker.worklist.changes import OF_PATIENTS, Action, Attributes, Change
from broker.worklist.correcting import order_told
from broker.worklist.ending import end, hold, release, reopen
from broker.worklist.finding import Known
from broker.worklist.identity import order_key
from broker.worklist.issuers import reconciled
from broker.worklist.merging import merge
from broker.worklist.naming import of_appointment
from broker.worklist.ordering import CORRECTS, schedule
from broker.worklist.persons import arrive, depart, update_patient
from broker.worklist.policies import Groups, MissingSteps
from broker.worklist.records import Order
from broker.worklist.refusals import Refused, guard_size, refuse_number_game
from broker.worklist.renumbering import left_out, renumbered
from broker.worklist.replacing import schedule_instead
from broker.worklist.unheard import first_word

__all__ = ["Applied", "Sender", "Unable", "apply_all"]


def apply_all(changes: Iterable[Change], known: Known, sender: Sender) -> Applied:
    """Apply the groups of one message in their order: all of them or, by Refused, none.

    Where the source wants the good ones applied, `refused` of the result names the others.
    """
    said = list(changes)
    if len(said) == 1 and (made := first_word(said[0], known, sender)):
        return Applied(made)
    return apply_at_length(said, known, sender)


def apply_at_length(changes: Iterable[Change], known: Known, sender: Sender) -> Applied:
    """Apply what has to be weighed against what is known, or against another group."""
    groups = [each for change in changes for each in _spread(change, known, sender)]
    if known.orders or len(groups) > 1:
        spoken = (order_key(each.attributes, sender.issuer) for each in groups)
        known = replace(known, spoken=frozenset(key for key in spoken if key))
    good, refused = groups, list[Exception]()
    while True:
        applied = _apply(good, known, sender, whole=not refused)
        if not applied.bad:
            made = applied.made
            return replace(made, refused=tuple(refused)) if refused else made
        refused += [_placed(bad, good[at], groups) for at, bad in applied.bad.items()]
        good = [each for at, each in enumerate(good) if at not in applied.bad]
        if sender.policies.groups is not Groups.APPLY_GOOD or not good:
            raise refused[0]


def _placed(reason: Exception, change: Change, groups: Sequence[Change]) -> Exception:
    """Tell of several groups which one is bad: the place of a patient is no help."""
    if len(groups) > 1 and isinstance(reason, Refused):
        return reason.within(change.location)
    return reason


class _Tried(NamedTuple):
    """What groups make of the records; the `bad` ones, by position, would make nothing of them."""

    made: Applied
    bad: dict[int, Exception]


def _apply(groups: Sequence[Change], known: Known, sender: Sender, *, whole: bool) -> _Tried:
    """Apply groups in their order; only of a `whole` message it is said what it leaves out.

    The first bad one is the last where none is applied without the others.
    """
    bad: dict[int, Exception] = {}
    result = _renumbered(groups, known, sender) if whole else Applied(known)
    for at, (change, meant) in enumerate(zip(groups, _paired(groups), strict=True)):
        try:
            if change.refused:
                raise change.refused
            guard_size(change)
            then = result.then(reconciled(change, result.known, sender))
            then = then.then(_ACTIONS[meant.action](meant, then.known, sender))
            refuse_number_game(change, then.known, then.renamed)
            result = then
        except Exception as reason:  # a refusal of either kind is kept; anything else is raised on
            if reason is not change.refused and not isinstance(reason, Refused):
                raise
            bad[at] = reason
            if sender.policies.groups is not Groups.APPLY_GOOD:
                break
    if bad:
        return _Tried(result, bad)
    if whole and sender.policies.missing_steps is MissingSteps.CANCEL:
        result = replace(result, known=_without_left_out(groups, result.known, known, sender))
    if any(change.action in OF_PATIENTS for change in groups):
        return _Tried(result, bad)
    return _Tried(result.with_known(_dated(known, result.known, sender)), bad)


def _spread(change: Change, known: Known, sender: Sender) -> Iterator[Change]:
    """Let a message about an appointment, and nothing else, mean every order of it."""
    orders = of_appointment(known, change.attributes, sender.issuer)
    if len(orders) < 2:
        yield change
        return
    for order in orders:
        said = {**change.attributes, "AccessionNumber": order.accession}
        if order.issuer != sender.issuer:
            said["IssuerOfAccessionNumberSequence"] = [{"LocalNamespaceEntityID": order.issuer}]
        yield replace(change, attributes=said)


def _paired(groups: Sequence[Change]) -> Iterator[Change]:
    """Let an order that is replaced end where its replacement comes in the same message."""
    replacing = any(change.action is Action.SCHEDULE for change in groups)
    for change in groups:
        ends = replacing and change.action is Action.REPLACE
        yield replace(change, action=Action.CANCEL) if ends else change


def _renumbered(groups: Sequence[Change], known: Known, sender: Sender) -> Applied:
    result = Applied(known)
    if not known.orders:
        return result
    anew = sender.policies.missing_steps is not MissingSteps.ADD
    for actions, certain in ((CORRECTS, False), ({Action.SCHEDULE}, True)):
        spoken = [change for change in groups if change.action in actions]
        for order, said in _by_order(spoken, known, sender) if anew or not certain else ():
            if not sender.is_late(order.sent):
                changed, notes = renumbered(order, said, certain=certain)
                result = result.then(Applied(result.known.with_order(changed), notes))
    return result


def _without_left_out(
    groups: Sequence[Change], after: Known, before: Known, sender: Sender
) -> Known:
    spoken = [change for change in groups if change.action in CORRECTS | {Action.SCHEDULE}]
    for order, said in _by_order(spoken, after, sender):
        if order is not before.orders.get(order.key):
            after = after.with_order(left_out(order, said))
    return after


def _by_order(
    groups: Sequence[Change], known: Known, sender: Sender
) -> Iterator[tuple[Order, list[Attributes]]]:
    """Give each order that is known with all that a message says of it."""
    said: dict[str, list[Attributes]] = {}
    for change in groups:
        corrects = change.action in CORRECTS
        order = order_told(known, change.attributes, sender.issuer, corrects=corrects)
        if order:
            said.setdefault(order.key, []).append(change.attributes)
    for key, attributes in said.items():
        yield known.orders[key], attributes


def _dated(before: Known, after: Known, sender: Sender) -> Known:
    """Remember when orders were spoken of: at last, lest one group of a message outdate another."""
    for key, order in after.orders.items():
        if order is not before.orders.get(key):
            sent = sender.stamped(order.sent)
            after = after.with_order(order.altered(sent=sent))
    return after


def _ignore(_change: Change, known: Known, _sender: Sender) -> Applied:
    return Applied(known, ("no change",))


_ACTIONS: dict[Action, Callable[[Change, Known, Sender], Applied]] = {
    Action.SCHEDULE: schedule_instead,
    Action.UPDATE: schedule,
    Action.REPLACE: schedule,
    Action.MOVE: schedule,
    Action.HOLD: hold,
    Action.RELEASE: release,
    Action.CANCEL: end,
    Action.NO_SHOW: end,
    Action.DISCONTINUE: end,
    Action.COMPLETE: end,
    Action.REOPEN: reopen,
    Action.PATIENT: update_patient,
    Action.ARRIVE: arrive,
    Action.DEPART: depart,
    Action.MERGE: merge,
    Action.IGNORE: _ignore,
    Action.REFUSE: _ignore,  # the mapping has answered it before anything comes here
}
