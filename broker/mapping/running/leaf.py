"""How one attribute is read, made fit, defaulted and demanded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

from broker.hl7.message import NULL
from broker.hl7.refusal import Location, Refusal
from broker.mapping.language.reading import Reading, Selection
from broker.mapping.language.scope import Test
from broker.mapping.standards.dictionaries import vr_of
from broker.mapping.values.evaluation import (
    Closure,
    Evaluation,
    Origin,
    Step,
    Unfit,
    Value,
    Watch,
    last_read,
    note,
    one,
)
from broker.mapping.values.fitting import NEVER_REWRITTEN, Fit, fit_of
from broker.mapping.values.tables import not_in_table
from broker.mapping.values.texts import UID_RULE
from broker.worklist.changes import FILLS_GAPS, Attributes, Ranked, plain


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
SHORT = 16  # SH, the shortest of the VRs below
PLAIN_TEXT = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "LocalNamespaceEntityID",
        "UniversalEntityID",
    }
)
MOST_NAMED = 4
"""Fields that a refusal names as those which would do."""

Place = tuple[str, int]
"""Segment and field; 0 is any segment of that name, wherever its fields are looked for."""


@dataclass(frozen=True, slots=True)
class Item:
    """What `each:` walks, counted from 1; `raw` is the segment or repetition as it was sent."""

    number: int
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Traced:
    """How one attribute came about, for people: it holds patient data and never goes to a log."""

    keyword: str
    value: Any
    rank: int
    path: str
    raw: str
    place: str
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    is_constant: bool = False
    # Whether a default follows the message: it takes the place of another default.
    anew: bool = False
    # For each sequence around it: which item, and what the item was made from.
    within: tuple[Item, ...] = ()
    # Why the item is none, '' where it is one.
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One place a leaf may come from."""

    read: Closure
    test: Test | None = None
    # The fields and functions that are all there is to it, where that is so.
    readings: tuple[Reading, ...] = ()
    # Or the repetitions that are chosen, and the functions for them.
    selection: Selection | None = None
    # Whether its test calls nothing that would leave a trace.
    quiet: bool = True
    # Of a default, or of a source without a field: the attributes that it is worked out from, ()
    # where it is fields alone. None where it only fills gaps: the message has no part in it, or it
    # is of an identifier.
    stands_on: tuple[str, ...] | None = None
    # The fields without all of which it says nothing, None where it may speak anyway.
    needs: frozenset[Place] | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """How one attribute is read, made fit, defaulted and demanded."""

    keyword: str
    name: str
    place: str
    options: tuple[Option, ...]
    defaults: tuple[Option, ...] = ()
    constant: str | None = None
    test: Test | None = None
    fit: Fit | None = None
    multiple: bool = False
    is_sequence: bool = False
    required: str = "no"
    refuse_unfit: bool = False
    table: str = ""  # where it is looked up, the first if several
    places: tuple[Origin, ...] = ()
    # Whether an absent value still needs a look: there is a default, or somebody insists on one.
    insists: bool = False
    # What a worklist item cannot be without (type 1 of Table K.6-1) is corrected, never erased.
    erasable: bool = True
    # The fields without all of which the leaf says nothing, None where it may speak anyway.
    needs: frozenset[Place] | None = None
    # The only source where nothing is to be asked before or after: nearly every leaf.
    only: Closure | None = None
    # The segments that `each:` walks where the leaf stands.
    walked: str = ""
    # As many characters of clean text fit as they stand; None where more is asked of them.
    clean_limit: int | None = None
    # Whether a later alternative is remembered as a poorer one, which older words withstand.
    ranked: bool = True

    def value(self, evaluation: Evaluation) -> Any:
        """ABSENT, None (erase), or a value with its rank. Raises Refusal."""
        evaluation.origin = evaluation.origin_segment = None
        if self.only is None or evaluation.trace is not None:
            return self._any(evaluation)
        evaluation.rank = 0
        try:
            value = self.only(evaluation)
            if not value:
                return ABSENT
            if value == NULL:
                return None
            if value.__class__ is str and self.fit is not None:
                fitted = self.fit(evaluation, value)
            else:
                fitted = self.fitted(evaluation, value)
        except Unfit as unfit:
            if _refuses(evaluation, unfit):
                raise self._refusal(evaluation, unfit) from unfit
            evaluation.warn(unfit.fact)
            return ABSENT
        if not fitted:
            return ABSENT
        return self.said(fitted, evaluation.rank) if evaluation.rank else fitted

    def said(self, value: Any, rank: int) -> Any:
        """What a message says, as it will stand beside what older messages have said."""
        if self.ranked:
            return Ranked(value, rank) if rank else value
        return Ranked(value, FILLS_GAPS, ()) if rank >= FILLS_GAPS else value

    def _any(self, evaluation: Evaluation) -> Any:
        if evaluation.watch is not None:
            return self._watched(evaluation, evaluation.watch)
        return self._found(evaluation)

    def _watched(self, evaluation: Evaluation, watch: Watch) -> Any:
        watch.steps.clear()
        warned = len(evaluation.warnings)
        try:
            found = self._found(evaluation)
        except Refusal:
            self._note(evaluation, watch, ABSENT, warned)
            raise
        self._note(evaluation, watch, found, warned)
        return found

    def _found(self, evaluation: Evaluation) -> Any:
        if self.test is not None and not self.test(evaluation):
            return ABSENT
        if self.constant is not None:
            found: Any = Ranked(self.constant, FILLS_GAPS)
        else:
            before, warned = len(evaluation.held), len(evaluation.warnings)
            found = self._said(evaluation)
            if found is ABSENT and self.insists and evaluation.strict:
                found = self._without_word(evaluation, before)
                if self.table and found is not ABSENT:
                    del evaluation.warnings[warned:]  # a default knew what the table did not
        if found is None and not self.erasable:
            found = self._kept(evaluation)
        return found

    def _said(self, evaluation: Evaluation) -> Any:
        number = -1
        for option in self.options:
            number += 1
            if option.test is not None and not option.test(evaluation):
                continue
            evaluation.rank = 0
            try:
                value = option.read(evaluation)
                if not value:
                    continue
                if value == NULL:
                    return None
                fitted = self._made_fit(evaluation, value)
            except Unfit as unfit:
                if _refuses(evaluation, unfit):
                    raise self._refusal(evaluation, unfit) from unfit
                evaluation.warn(unfit.fact)
                continue
            if fitted:
                if option.stands_on is not None:
                    return Ranked(fitted, FILLS_GAPS, option.stands_on)
                evaluation.rank = max(evaluation.rank, number)
                return self.said(fitted, evaluation.rank)
        return ABSENT

    def _without_word(self, evaluation: Evaluation, before: int) -> Any:
        """What stands in when the message says nothing usable: a default, or a refusal."""
        held = len(evaluation.held) > before
        said = None if held else self._unusable(evaluation)
        if said and self.refuse_unfit:
            raise self._refusal(evaluation, self._unfit(), said)
        for option in self.defaults:
            if option.test is not None and not option.test(evaluation):
                continue
            try:
                value = option.read(evaluation)
                fitted = self._made_fit(evaluation, value) if value and value != NULL else ""
            except Unfit as unfit:
                if unfit.final:
                    raise self._refusal(evaluation, unfit) from unfit
                continue  # a number that is no accession number is not one that was said to be one
            if fitted:
                return Ranked(fitted, FILLS_GAPS, option.stands_on)
        if len(evaluation.held) > before:
            return ABSENT  # nobody knows yet what it is: the order waits for the answer
        if self.required != "no" and said:
            raise self._refusal(evaluation, self._unfit(), said)
        if self._demanded(evaluation):
            raise self._missing(evaluation)
        return ABSENT

    def _kept(self, evaluation: Evaluation) -> Any:
        if evaluation.strict:
            origin, segment = evaluation.origin, evaluation.origin_segment
            location = None
            if origin is not None and segment is not None:
                location = Location(origin.segment, segment.sequence, origin.field)
            raise Refusal(
                f"{self.keyword} cannot be erased",
                code="101",
                location=location,
                remedy='send the right value, or nothing instead of ""',
                rule=near(self.place),
            )
        evaluation.warn("cannot be erased")
        return ABSENT

    def _demanded(self, evaluation: Evaluation) -> bool:
        return evaluation.strict and (
            self.required == "always" or (self.required == "schedule" and evaluation.schedules)
        )

    def _made_fit(self, evaluation: Evaluation, value: Value) -> Any:
        """The value made fit; a surrogate or a cut is a step for whoever watches."""
        stood_for = len(evaluation.whole)
        fitted = self.fitted(evaluation, value)
        if evaluation.watch is not None and isinstance(fitted, str) and fitted != one(value):
            surrogate = len(evaluation.whole) > stood_for
            note(evaluation, "surrogate" if surrogate else f"as {vr_of(self.keyword)}", fitted)
        return fitted

    def fitted(self, evaluation: Evaluation, value: Value) -> Any:
        """The value as its VR and multiplicity want it. Raises Unfit."""
        if self.is_sequence:
            return _fitted_items(evaluation, value)
        if isinstance(value, str):
            return self.fit(evaluation, value) if self.fit is not None else value
        if not self.multiple:
            text = one(value)
            return self.fit(evaluation, text) if self.fit is not None else text
        texts = (each for each in value if isinstance(each, str) and each != NULL)
        fitted = [self.fit(evaluation, each) if self.fit is not None else each for each in texts]
        return [each for each in fitted if each]

    def _unfit(self) -> Unfit:
        if self.table:
            return not_in_table(self.table)
        if vr_of(self.keyword) in ("DA", "TM"):
            what = "date" if vr_of(self.keyword) == "DA" else "time"
            return Unfit(f"is no {what}", remedy="send YYYYMMDDHHMM[SS], a zone may follow")
        if vr_of(self.keyword) == "UI":
            return Unfit("is no UID", remedy=UID_RULE)
        return Unfit("cannot be used")

    def _unusable(self, evaluation: Evaluation) -> Location | None:
        """Where the message says something that came to nothing."""
        names = self.keyword in NEVER_REWRITTEN  # whose issuer alone says nothing
        for origin in self.places:
            segment = segment_of(evaluation, origin)
            if segment is not None and any(
                each.text(origin.component or int(names)).strip('^~& "')
                for each in segment.repetitions(origin.field)
            ):
                return Location(origin.segment, segment.sequence, origin.field)
        return None

    def _missing(self, evaluation: Evaluation) -> Refusal:
        """Name a field that the sender has room for, and every other that would do."""
        present = [
            (each, segment)
            for each in self.places
            if (segment := segment_of(evaluation, each)) is not None
        ]
        fact, location = f"{self.keyword} is missing", None
        if present:
            holding = (pair for pair in present if pair[0].field < len(pair[1].fields()))
            origin, segment = next(holding, present[0])
            location = Location(origin.segment, segment.sequence, origin.field)
        elif self.places:
            location = Location(self.places[-1].segment, 1, self.places[-1].field)
            fact += f": there is no {_any_of(each.segment for each in self.places)} segment"
        would_do = [each for each, _ in present] or self.places
        return Refusal(
            fact,
            code="101",
            location=location,
            remedy=_filling(would_do, self.keyword),
            rule=near(self.place),
        )

    def _refusal(
        self, evaluation: Evaluation, unfit: Unfit, location: Location | None = None
    ) -> Refusal:
        segment, origin = evaluation.origin_segment, evaluation.origin
        if location is None and segment is not None and origin is not None:
            component = origin.component
            location = Location(
                origin.segment, segment.sequence, origin.field, 1 if component else 0, component
            )
        return Refusal(
            f"{self.keyword} {unfit.fact}",
            code=unfit.code,
            location=location,
            remedy=unfit.remedy or "send another value, or change the line of the mapping",
            rule=near(self.place),
        )

    def _note(self, evaluation: Evaluation, watch: Watch, found: Any, warned: int) -> None:
        traced = replace(
            self._traced(evaluation, found),
            steps=tuple(watch.steps),
            warnings=tuple(evaluation.warnings[warned:]),
            is_constant=self.constant is not None,
        )
        (watch.silent if found is ABSENT else watch.traced).append(traced)

    def _traced(self, evaluation: Evaluation, found: Any) -> Traced:
        if found is ABSENT:
            said = "  ".join(self._unused(evaluation))
            return Traced(self.name, None, 0, said, "", self.place)
        label, raw = last_read(evaluation)
        chosen = evaluation.rank if found is not None else 0
        rank = found.rank if isinstance(found, Ranked) else chosen
        anew = isinstance(found, Ranked) and found.stands_on is not None
        return Traced(self.name, plain(found), rank, label, raw, self.place, anew=anew)

    def _unused(self, evaluation: Evaluation) -> Iterator[str]:
        """The fields that came to nothing, each as it was sent."""
        for label, origin in {each.label: each for each in self.places}.items():
            segment = segment_of(evaluation, origin)
            raw = segment.field(origin.field) if segment is not None else ""
            yield f"{label} '{raw}'" if raw else label


def _fitted_items(evaluation: Evaluation, value: Value) -> list[Attributes]:
    items: list[Any] = [value] if isinstance(value, str) else value
    if any(not isinstance(item, dict) for item in items):
        raise Unfit("is text, where only the items of a sequence can stand")
    return [_fitted_item(evaluation, item) for item in items]


def _fitted_item(evaluation: Evaluation, item: Attributes) -> Attributes:
    # What fits every short string needs no look: codes and issuers are that, nearly always.
    return {
        keyword: text
        if len(text) <= SHORT and text.isalnum() and keyword in PLAIN_TEXT
        else fit_of(keyword)(evaluation, text)
        for keyword, text in item.items()
    }


def _refuses(evaluation: Evaluation, unfit: Unfit) -> bool:
    lenient = evaluation.watch is not None and evaluation.watch.lenient
    return evaluation.strict or (unfit.narrows and not lenient)


def _filling(places: Sequence[Origin], keyword: str) -> str:
    fields = list(dict.fromkeys(f"{each.segment}-{each.field}" for each in places))
    where = _any_of(fields) if 1 < len(fields) <= MOST_NAMED else "the field"
    return f"fill {where}, or give {keyword} a default in the mapping"


def _any_of(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def segment_of(evaluation: Evaluation, origin: Origin) -> Any:
    element = evaluation.element
    if getattr(element, "name", None) == origin.segment:
        return element
    return evaluation.segments.first(origin.segment) if evaluation.segments is not None else None


def near(place: str) -> str:
    """File and line without the folders: a sender has no business with our paths."""
    return PurePath(place).name
