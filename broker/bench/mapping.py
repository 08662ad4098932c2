"""Mapping an order, beside reading the fields of the same rules with hl7apy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from broker.hl7.header import read_header
from broker.hl7.message import Message, parse
from broker.mapping.bundle import Bundle
from broker.mapping.files.rules import InboundFile
from broker.mapping.loading import load
from broker.mapping.running.applying import changes
from broker.mapping.running.leaf import Leaf
from broker.mapping.trials.coverage import leaves
from broker.mapping.trials.differing import Comparison
from broker.worklist.changes import Change

Result = TypeVar("Result")

MAPPINGS = ("ihe-orders", "epic", "sectra")
RECEIVED = datetime(2026, 3, 16, 12, tzinfo=UTC)
SITE_ZONE = ZoneInfo("Europe/Berlin")
ROUNDS = 5
PEER_SHARE = 50
"""hl7apy gets one message for so many of ours: it needs milliseconds for each."""
COMPARED = 10
"""Messages that are compared for each that is measured: 10,000 of 1,000."""
OTHERWISE = """
mapping: otherwise
format: 1
extends: ihe-orders
accept: {messages: [ORM^O01]}
attributes:
  PatientName: {from: PID-5 | person | upper, required: schedule}
  PatientSex: {const: O}
  AdmissionID: PID-18.1
  CurrentPatientLocation: PV1-3.1
  MedicalAlerts: {const: ask}
  ReferringPhysicianName: OBR-28 | clinician
  RequestingPhysician: {const: NOBODY}
  RequestedProcedureDescription: {from: OBR-4.1 ?? OBR-4.2, required: schedule}
  RequestedProcedureCodeSequence: OBR-4 | code('99OTHER')
  PatientTransportArrangements: {const: BED}
  ScheduledProcedureStepSequence:
    item:
      ScheduledStationName: {const: ROOM}
      ScheduledProcedureStepDescription: OBR-4.1
"""
"""An overlay by which a dozen attributes of every order come out otherwise."""
VARIED = (("PID", 3), ("PID", 5), ("ORC", 2), ("ORC", 3))
"""What differs from order to order, so that nothing is remembered that a hospital would not see."""


@dataclass(frozen=True)
class Sample:
    """The example of a mapping as a RIS could send it, in `count` variations."""

    mapping: str
    message: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Pace:
    """Microseconds for a message: the rules alone, and with parsing; hl7apy only reads fields."""

    mapping: str
    message: str
    messages: int
    apply_us: float
    with_parse_us: float
    hl7apy_messages: int
    hl7apy_read_us: float
    hl7apy_with_parse_us: float

    @property
    def ratio(self) -> float:
        """How many times longer hl7apy reads fields than we apply rules, both without parsing."""
        return self.hl7apy_read_us / self.apply_us

    @property
    def ratio_with_parse(self) -> float:
        """The same with parsing."""
        return self.hl7apy_with_parse_us / self.with_parse_us


@dataclass(frozen=True)
class Loading:
    """Seconds of processor time to load and check all files: the first time, and with examples."""

    files: int
    examples: int
    first_s: float
    checked_s: float


def measure_loading(folder: Path) -> tuple[Loading, Bundle]:
    """Load a folder twice: as it is, then with its examples, as a start and `map check` do."""
    first_s, bundle = _timed(lambda: load(folder, examples=False))
    checked_s, bundle = _timed(lambda: load(folder))
    examples = sum(len(each.file.examples) for each in bundle.loaded)
    return Loading(len(bundle.loaded), examples, first_s, checked_s), bundle


@dataclass(frozen=True)
class Comparing:
    """Seconds of processor time to compare two sets of mappings over messages as they came."""

    messages: int
    changed: int
    groups: int
    seconds: float


def measure_comparing(bundle: Bundle, messages: int) -> Comparing:
    """What `map diff` does, without the store: orders through the shipped mapping and another."""
    [sample] = samples(bundle, messages, (MAPPINGS[0],))
    raws = [text.encode() for text in sample.texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "otherwise.yaml"
        path.write_text(OTHERWISE, encoding="utf-8")
        comparison = Comparison(bundle, load(path, examples=False), SITE_ZONE)
    began = time.process_time()
    for number, raw in enumerate(raws):
        comparison.add(str(number), raw, RECEIVED)
    seconds = time.process_time() - began
    return Comparing(messages, comparison.changed, len(comparison.groups), seconds)


def samples(bundle: Bundle, count: int, mappings: Sequence[str] = MAPPINGS) -> Iterator[Sample]:
    """The first accepted example of each mapping that is measured."""
    for each in bundle.loaded:
        if each.mapping.name not in mappings or not isinstance(each.file, InboundFile):
            continue
        name = next(example.message for example in each.file.examples if example.expect)
        text = (each.path.parent / name).read_text(encoding="utf-8")
        varied = tuple(_varied(text, number) for number in range(count))
        yield Sample(each.mapping.name, Path(name).name, varied)


def measure(bundle: Bundle, sample: Sample) -> Pace:
    """Our pace and hl7apy's on the same messages, in turns; medians of the rounds."""
    header = read_header(sample.texts[0].encode())
    inbound, source = bundle.accepting(header), bundle.source(header)

    def apply(message: Message) -> list[Change]:
        return changes(inbound, source, message, received=RECEIVED, site_zone=SITE_ZONE)

    wanted = [places_of(leaf) for leaf in leaves(inbound)]
    few = sample.texts[: max(1, len(sample.texts) // PEER_SHARE)]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_pace(sample.texts, parse, apply))
        theirs.append(_pace(few, hl7apy_parsed, lambda message: hl7apy_read(message, wanted)))
    return Pace(
        sample.mapping,
        sample.message,
        len(sample.texts) * ROUNDS,
        *_medians(ours),
        len(few) * ROUNDS,
        *_medians(theirs),
    )


def _pace(
    texts: Sequence[str], read: Callable[[str], Any], work: Callable[[Any], object]
) -> tuple[float, float]:
    """Microseconds a message for the work alone, and for reading and work.

    Medians of processor time, since others may be busy on this machine. Each message is worked on
    once and as soon as it is read, as a broker does: what is split when it is first looked at
    belongs to the work.
    """
    alone, whole = [], []
    for text in texts:
        began = time.process_time()
        message = read(text)
        parsed = time.process_time()
        work(message)
        ended = time.process_time()
        alone.append(1e6 * (ended - parsed))
        whole.append(1e6 * (ended - began))
    return median(alone), median(whole)


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def _medians(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    alone, whole = zip(*rounds, strict=True)
    return median(alone), median(whole)


def _varied(text: str, number: int) -> str:
    """Another patient's order of the same shape."""
    message = parse(text)
    for name, field in VARIED:
        said = message.all(name)[0].repetitions(field)[:1]
        value = said[0].text(1, 1) if said else ""
        if value:
            text = text.replace(value, f"{value[:-4] or value[0]}{number % 10_000:04}")
    return text.replace("\n", "\r")


# hl7apy


Names = tuple[str, str, str]
"""Segment, field and component as hl7apy names them: pid, pid_5, pid_5_1 ('' for the field)."""


def places_of(leaf: Leaf) -> list[Names]:
    """Where a rule reads, each place once."""
    found = []
    for each in leaf.places:
        segment = each.segment.lower()
        field = f"{segment}_{each.field}"
        found.append((segment, field, f"{field}_{each.component}" if each.component else ""))
    return list(dict.fromkeys(found))


def hl7apy_parsed(text: str) -> Any:
    """A message as hl7apy reads it fastest: flat, without its groups."""
    return parse_message(text, find_groups=False)


def hl7apy_read(message: Any, wanted: Sequence[Sequence[Names]]) -> int:
    """Read what the rules read, for each the first field that says something; no functions."""
    return sum(any(_hl7apy_text(message, names) for names in rule) for rule in wanted)


def _hl7apy_text(message: Any, names: Names) -> str:
    segment, field, component = names
    try:
        for repetition in getattr(getattr(message, segment)[0], field):
            text = getattr(repetition, component).value if component else repetition.value
            if text:
                return str(text)
    except (HL7apyException, IndexError):  # not in this message, or not in its version of HL7
        pass
    return ""
