"""Tells what the actors saw: HL7 segments in colour, the worklist as a table, hop times in ms."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from broker.probe.demo import Step
from broker.probe.scanner import STEP, Attributes

_DELIMITERS = "|^~&"
# The fields that decide what a message means: order control and status, the answer to a message.
_TELLING = {("MSH", 9), ("ORC", 1), ("ORC", 5), ("MSA", 1)}
_VERDICTS = {"AA": "bold green", "CA": "bold green", "AE": "bold red", "AR": "bold red"}

# heading, the sequence it is in, keywords joined by a blank
_COLUMNS = (
    ("start", STEP, ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")),
    ("patient", "", ("PatientName",)),
    ("ID", "", ("PatientID",)),
    ("born", "", ("PatientBirthDate",)),
    ("sex", "", ("PatientSex",)),
    ("accession", "", ("AccessionNumber",)),
    ("modality", STEP, ("Modality",)),
    ("station", STEP, ("ScheduledStationAETitle",)),
    ("procedure", STEP, ("ScheduledProcedureStepDescription",)),
)


def tell(steps: Iterable[Step], console: Console) -> bool:
    """Print each step as it happens; whether every one held."""
    number = 0
    for number, step in enumerate(steps, start=1):
        _tell_step(number, step, console)
        if not step.holds:
            console.print(Text(f"\n✗ hop {number} failed: {step.flow}: {step.title}", "bold red"))
            return False
    console.print(Text(f"\n✓ all {number} steps held", "bold green"))
    return True


def _tell_step(number: int, step: Step, console: Console) -> None:
    mark = Text("✓ ", "green") if step.holds else Text("✗ ", "bold red")
    took = Text(f"  {step.took_ms:.1f} ms", "magenta") if step.took_ms else Text("")
    title = Text.assemble((f"\n{number}. ", "bold"), mark, (step.title, "bold"))
    console.print(title + took, Text(f"   {step.flow}", "dim"), sep="\n", soft_wrap=True)
    if step.shown.message:
        for line in hl7_text(step.shown.message).split("\n"):
            console.print(Text("   ") + line, soft_wrap=True)
    if step.shown.items is not None:
        console.print(Padding.indent(worklist_table(step.shown.items), 3))
    if step.shown.note:
        console.print(Text(f"   {step.shown.note}", "dim"), soft_wrap=True)
    if step.fault:
        console.print(Text(indent(step.fault, "   "), "red"), soft_wrap=True)


def hl7_text(message: str) -> Text:
    """A message with a line per segment: names and delimiters apart, telling fields bold."""
    lines = [line for line in message.replace("\n", "\r").split("\r") if line]
    return Text("\n").join(_segment_text(line) for line in lines)


def _segment_text(line: str) -> Text:
    name, *fields = line.split("|")
    text = Text().append(name, "bold cyan")
    shift = 2 if name == "MSH" else 1
    for number, value in enumerate(fields, start=shift):
        text.append("|", "dim")
        if (name, number) in _TELLING:
            text.append(value, _VERDICTS.get(value, "bold yellow"))
        else:
            _append_components(text, value)
    return text


def _append_components(text: Text, value: str) -> None:
    for character in value:
        text.append(character, "dim" if character in _DELIMITERS else "")


def worklist_rows(items: Iterable[Attributes]) -> list[list[str]]:
    """The list as people read it: one row per item in the order of the columns."""
    return [[_cell(item, parent, keywords) for _, parent, keywords in _COLUMNS] for item in items]


def worklist_table(items: list[Attributes]) -> Table | Text:
    """The list as a table, or a line that says that it is empty."""
    if not items:
        return Text("(the worklist is empty)", "italic")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, _, _ in _COLUMNS:
        table.add_column(
            heading, min_width=len(heading), overflow="fold"
        )  # a narrow terminal must not hide half a name
    for row in worklist_rows(items):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _cell(item: Attributes, parent: str, keywords: tuple[str, ...]) -> str:
    values = (item.get(parent) or [{}])[0] if parent else item
    return " ".join(_text(values.get(keyword, "")) for keyword in keywords).strip()


def _text(value: Any) -> str:
    return "\\".join(value) if isinstance(value, list) else str(value)
