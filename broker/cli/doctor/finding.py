"""What an examination finds: one line for each thing, with its remedy."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How it is: FAIL is what keeps orders, lists or reports from going their way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was looked at; `remedy` is '' where all is well. No patient data."""

    what: str
    state: State
    fact: str
    remedy: str = ""


def ok(what: str, fact: str) -> Finding:
    """Give a finding that all is well."""
    return Finding(what, State.OK, fact)


def warn(what: str, fact: str, remedy: str) -> Finding:
    """Give a finding that somebody should look at."""
    return Finding(what, State.WARN, fact, remedy)


def fail(what: str, fact: str, remedy: str) -> Finding:
    """Give a finding that something does not go its way."""
    return Finding(what, State.FAIL, fact, remedy)
