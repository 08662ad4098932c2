"""hl7apy as the judge of whole messages: slow and thorough, for strict sources and examples."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

from hl7apy import load_library
from hl7apy.exceptions import ChildNotFound, HL7apyException
from hl7apy.parser import parse_message

MISSING = re.compile(r"Missing required child (\w+)\.\w+")


def judged(text: str) -> tuple[str, ...]:
    """What hl7apy has against a message of CR-ended segments; nothing when it is valid."""
    try:
        message = parse_message(text)
    except HL7apyException as error:
        return (f"cannot be parsed: {type(error).__name__}",)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        with contextlib.suppress(HL7apyException):  # it raises the first; the report has them all
            message.validate(report_file=str(report))
        lines = report.read_text(encoding="utf-8").splitlines()
    errors = (line.removeprefix("Error: ") for line in lines if line.startswith("Error: "))
    return tuple(error for error in errors if not _is_choice(error, str(message.version)))


def _is_choice(error: str, version: str) -> bool:
    """Of a choice (OBR or RQD or RXO …) hl7apy 1.3.5 wants all members, the standard one."""
    match = MISSING.match(error)
    if match is None:
        return False
    try:
        kind = load_library(version).get(match[1], "Group")[0]
    except ChildNotFound:
        return False
    return bool(kind == "choice")
