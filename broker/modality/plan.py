"""What one identifier asks for, worked out once: scanners send the same bytes all day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

from broker.dicom.dictionary import UnencodableValue
from broker.dicom.dimse import PENDING, PENDING_UNSUPPORTED_KEYS
from broker.dicom.encoding import charset_for, encode, in_letters_of
from broker.dicom.identifier import Identifier, decode
from broker.dicom.outline import Encoder, Key, NotPlain, encoder
from broker.modality.kept import Kept
from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes
from broker.worklist.form import shapes
from broker.worklist.profile import Profile
from broker.worklist.query.matching import Query
from broker.worklist.query.narrowing import Narrowing, narrow, settles
from broker.worklist.query.returning import Outline, Returned, lacking, of_item, of_step, outline
from broker.worklist.records import StepStatus

UNSAID: Final = "ISO_IR 100"
"""The set of answers that ASCII does not hold, where neither the AE nor its query names one."""
DONE: Final = frozenset({StepStatus.COMPLETED, StepStatus.DISCONTINUED, StepStatus.CANCELLED})
"""Steps that stand in no index."""
PLANS_BYTES: Final = 2 * 2**20
SHAPES_BYTES: Final = 6 * 2**20
PLAN_BYTES: Final = 6000
"""What a plan of some thirty keys takes in memory, beside its identifier."""
SHAPE_BYTES: Final = 200_000
"""What a shape does, with values that come again."""


class Asker(NamedTuple):
    """Whoever asks: its profile, and what its association has negotiated."""

    profile: Profile
    fuzzy: bool = False
    zoned: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of an answer: the same for all queries that want the same attributes back.

    `charsets` are those to try where ASCII does not do, `plain` encodes where it does.
    """

    number: int
    query: Query
    profile: Profile
    transfer_syntax: str
    charsets: tuple[tuple[str, ...], ...]
    plain: Encoder | None

    def encoded(self, item: Attributes) -> bytes:
        """Encode one answer. Raises UnencodableValue, and what comes of values that are none."""
        if self.plain is not None:
            try:
                return self.plain(item)
            except NotPlain:
                pass
        rules = self.profile.rules
        answer = self.profile.formed(self.query.answer(item))
        if missing := lacking(answer):
            raise UnencodableValue(missing, "is type 1 and has no value")
        if rules.charset and rules.beyond_charset == "transliterate":
            answer = in_letters_of(answer, rules.terms)
        return encode(answer, self.transfer_syntax, charset_for(answer, *self.charsets))


@dataclass(frozen=True, slots=True)
class Plan:
    """One query of one AE: what it is matched by, where to look, and the form of its answers.

    `settled`: what the index gives need not be matched, nor hidden by the day. `any_status`: no
    status is hidden. `unread` are keys whose value nobody can read, `backwards` those whose range
    ends before it begins, `status` is that of its pending answers.
    """

    query: Query
    profile: Profile
    narrowing: Narrowing
    settled: bool
    any_status: bool
    shape: Shape
    status: int
    unread: tuple[str, ...]
    backwards: tuple[str, ...]


class Plans:
    """The plans and shapes of a process."""

    def __init__(self) -> None:
        self.plans: Kept[tuple[bytes, str, Asker], Plan] = Kept(PLANS_BYTES)
        self.shapes: Kept[tuple[Outline | Profile | object, ...], Shape] = Kept(SHAPES_BYTES)
        self._numbers = count()

    def plan(self, identifier: bytes, transfer_syntax: str, asker: Asker) -> Plan:
        """Give the plan for an encoded identifier. Raises UnreadableIdentifier."""
        key = (identifier, transfer_syntax, asker)
        plan = self.plans.get(key)
        if plan is None:
            plan = self._made(identifier, transfer_syntax, asker)
            self.plans.put(key, plan, len(identifier) * 3 + PLAN_BYTES)
        return plan

    def _made(self, identifier: bytes, transfer_syntax: str, asker: Asker) -> Plan:
        profile, rules = asker.profile, asker.profile.rules
        said = decode(identifier, transfer_syntax, assumed=rules.terms)
        zone = profile.site if asker.zoned else None
        query = profile.asked(Query.of(said.keys, fuzzy=asker.fuzzy, zone=zone))
        any_status = query.asks_for_status()
        narrowing = narrow(query, ended=_wants_done(query, profile))
        always = rules.past_days is None and rules.ahead_days is None and query.zone is None
        whole = rules.pending == "FF00" or (query.supported() and not said.unknown)
        return Plan(
            query=query,
            profile=profile,
            narrowing=narrowing,
            settled=always and settles(query, narrowing),
            any_status=any_status,
            shape=self._shape(query, transfer_syntax, said, profile, len(identifier)),
            status=PENDING if whole else PENDING_UNSUPPORTED_KEYS,
            unread=(*query.passed_over(), *said.unusable),
            backwards=tuple(query.backwards()),
        )

    def _shape(
        self, query: Query, transfer_syntax: str, said: Identifier, profile: Profile, size: int
    ) -> Shape:
        rules = profile.rules
        charsets = (rules.terms,) if rules.charset else (said.charset, (UNSAID,))
        key = (outline(query), query.zone, transfer_syntax, charsets, profile)
        shape = self.shapes.get(key)
        if shape is None:
            plain = _plain(query, profile, transfer_syntax)
            number = next(self._numbers)
            shape = Shape(number, query, profile, transfer_syntax, charsets, plain)
            self.shapes.put(key, shape, size * 10 + SHAPE_BYTES)
        return shape


def _wants_done(query: Query, profile: Profile) -> bool:
    """Tell whether steps that are done may be among the answers."""
    if query.asks_for_status():
        return any(query.takes_status(status) for status in DONE)
    return not DONE.issubset(profile.rules.hide)


def _plain(query: Query, profile: Profile, transfer_syntax: str) -> Encoder | None:
    """Give the quick encoder; None where answers are formed, or have all of steps that differ."""
    if query.step == {} or query.zone or shapes(profile.rules):
        return None
    keys = list(_keys(of_item(query)))
    if query.step is not None:
        keys.append(Key(STEPS, True, item=tuple(_keys(of_step(query)))))
    return encoder(keys, transfer_syntax)


def _keys(keys: Iterable[Returned]) -> Iterator[Key]:
    return (Key(k.keyword, k.always, narrowed=k.narrowed, needed=k.needed) for k in keys)
