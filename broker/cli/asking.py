"""A worklist query put to the door's own handler, without a socket: what an AE gets now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from broker.cli import logs
from broker.cli.opening import store_url

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.modality.sightings import Told
    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.sightings import AskedOnce

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
STRANGER: Final = (
    "its association is rejected: dicom.aes does not name it, and dicom.unknown_ae is refuse"
)


@dataclass(frozen=True)
class Question:
    """One query of an AE. `how` tells people where it is from; `at` is when it was asked (epoch s).

    `fuzzy` and `zoned` are what was negotiated for it. `rejected` says why it cannot even ask.
    `remembered` are the AE's last queries of each kind, read at one moment with the question.
    """

    title: str
    identifier: bytes
    how: str
    transfer_syntax: str = IMPLICIT_LITTLE
    address: str = ""
    fuzzy: bool = False
    zoned: bool = False
    at: float | None = None
    rejected: str = ""
    remembered: tuple[AskedOnce, ...] = ()


@dataclass(frozen=True)
class Got:
    """What the door says now: `comment` is that of a failure, `answers` are as the AE has them."""

    told: Told
    comment: str
    answers: list[dict[str, Any]]


def question_of(
    store: Store, settings: Settings, called: str, file: Path | None, keys: dict[str, str]
) -> Question:
    """Give the query in a file, the one of these step keys, or the AE's last; else one for all.

    An alias, or a title in other letters, is the AE that it means to the door.
    """
    from broker.store import sightings

    known = settings.dicom.directory().profile(called.strip()).title
    title = known or called.strip()
    asked = store.run(sightings.last_asked(title))
    question = replace(_question_of(asked, title, file, keys), remembered=tuple(asked))
    if known or settings.dicom.unknown_ae == "accept":
        return question
    return replace(question, rejected=STRANGER)


def _question_of(
    remembered: Sequence[AskedOnce], title: str, file: Path | None, keys: dict[str, str]
) -> Question:
    if file is not None:
        return Question(title, _read(file), f"as asked by {file.name}")
    if keys:
        return Question(title, _encoded(keys), "as asked by the options")
    if not remembered:
        return Question(title, _encoded({}), "as asked for everything: it has not asked lately")
    last = remembered[0]
    return Question(
        title,
        last.identifier,
        "as it asked last",
        last.transfer_syntax,
        last.address,
        last.fuzzy,
        last.zoned,
        last.at,
    )


def described(question: Question, zone: ZoneInfo) -> str:
    """Say whose query it is, from where, and when in the time of the site."""
    from broker.cli.outline import moment

    at = f" at {moment(question.at, zone)}" if question.at else ""
    return f"{question.title}, {question.how}{at}"


def put(settings: Settings, question: Question) -> Got:
    """Put a query to the handler that answers scanners. Raises StoreUnavailable."""
    logs.configure(settings.log.model_copy(update={"level": "critical"}))  # the answer is printed
    return asyncio.run(_put(settings, question))


async def _put(settings: Settings, question: Question) -> Got:
    from broker.dicom.dimse import DimseRequest, Response
    from broker.dicom.identifier import decode
    from broker.dicom.negotiation import MODALITY_WORKLIST
    from broker.modality.door import questions
    from broker.modality.find import STORE_AWAY
    from broker.modality.metrics import ModalityMetrics
    from broker.modality.reception import Association
    from broker.store import reads
    from broker.store.executors import AsyncStore, StoreUnavailable

    heard: list[Told] = []
    answers: list[dict[str, Any]] = []
    comment, syntax = "", question.transfer_syntax
    uid = str(MODALITY_WORKLIST)
    request = DimseRequest("C-FIND", 1, uid, "", 0, question.identifier, 1, syntax, uid)
    called = settings.dicom.ae_title
    association = Association(question.title, called, question.address)
    association = replace(association, fuzzy=question.fuzzy, zoned=question.zoned)
    store = AsyncStore(store_url(settings))
    try:
        await store.run(reads.ping())  # the handler would answer for a store that is away
        handlers = questions(settings, store, ModalityMetrics(), heard.append)
        async for response in handlers[uid, "C-FIND"](request, association):
            if isinstance(response, Response):
                comment = response.error_comment
            else:
                answers += (decode(dataset, syntax).keys for dataset in response.datasets)
    finally:
        await store.close()
    if comment == STORE_AWAY:
        raise StoreUnavailable("it went away while it was asked")
    return Got(heard[0], comment, answers)


def _encoded(keys: dict[str, str]) -> bytes:
    from broker.dicom.encoding import encode
    from broker.probe.questions import RETURN_KEYS, STEP

    (step,) = RETURN_KEYS[STEP]
    return encode({**RETURN_KEYS, STEP: [{**step, **keys}]}, IMPLICIT_LITTLE)


def _read(file: Path) -> bytes:
    """A query as any DICOM tool writes it, with or without a Part 10 header; else exit 2."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    try:
        dataset = dcmread(file, force=True)
        if not len(dataset):
            raise InvalidDicomError("no attribute in it")
        written = DicomBytesIO()
        written.is_little_endian, written.is_implicit_VR = True, True
        write_dataset(written, dataset, parent_encoding="latin-1")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # pydicom raises what it likes over bytes that are no data set
        hint = f"{file}: it is no data set ({type(error).__name__})"
        raise typer.BadParameter(hint, param_hint="--query") from error
    return written.getvalue()
