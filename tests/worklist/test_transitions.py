"""The README's table of MPPS transitions is the program's."""

from __future__ import annotations

from pathlib import Path

from broker.worklist.mpps import TRANSITIONS, MppsStatus, Transition

README = Path(__file__).parents[2] / "README.md"
HEAD = "| stored | request | status asked | result |\n|---|---|---|---|\n"


def test_the_readme_has_the_table_of_the_program() -> None:
    lines = "".join(f"| {' | '.join(cells(row))} |\n" for row in TRANSITIONS)
    assert HEAD + lines in README.read_text(encoding="utf-8"), f"it has to be\n{HEAD}{lines}"


def cells(row: Transition) -> tuple[str, ...]:
    """One line as people read it."""
    before = TRANSITIONS[: TRANSITIONS.index(row)]
    others = any((r.stored, r.request) == (row.stored, row.request) for r in before)
    stored = "any" if not row.stored else ", ".join(each or "–" for each in row.stored)
    asked = ", ".join(each or "none" for each in row.asked)
    return (
        stored,
        row.request,
        asked or ("anything else" if others else "any"),
        f"0000, {row.result}" if not isinstance(row.result, MppsStatus) else told(row.result),
    )


def told(status: MppsStatus) -> str:
    return f"{status.value}, Error ID A710" if status.value == "0110" else str(status.value)
