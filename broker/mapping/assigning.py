"""A code that a table does not have: where its row belongs, what comes near, the table with it."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.files.rules import InboundFile, TableRule
from broker.mapping.text.document import decode
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.values.tables import ANY_OTHER

LONGEST_COMPARED = 64
NEAR = 3
ALIKE = 0.4
SHORTHANDS = {
    "modality": ("modality",),
    "station": ("station", "ae_title", "station_ae_title", "aet"),
}
"""What an option may mean, by the names that a column has then."""


class CannotAssign(Exception):
    """A row cannot be written; says the fact and the remedy."""


@dataclass(frozen=True)
class Sheet:
    """A table in a CSV file: the columns of its key and its value, and the rows it has."""

    name: str
    file: Path
    key: tuple[str, ...]
    value: str
    columns: tuple[str, ...]
    exact: bool = False
    rows: Mapping[str, str] = field(default_factory=dict, compare=False)

    def has(self, code: str) -> bool:
        """Whether there is a row for a code already."""
        if self.exact:
            return code.strip() in self.rows
        return same_code(code) in map(same_code, self.rows)


def same_code(code: str) -> str:
    """A code as tables compare it when capitals do not matter."""
    return "|".join(part.strip() for part in code.split("|")).upper()


def sheet_of(bundle: Bundle, table: str, mappings: Collection[str] = ()) -> Sheet:
    """The CSV file of a table, as these mappings read it; none named means all.

    Raises CannotAssign when there is no such table, no such file, or more than one.
    """
    owners = _owners(bundle, table, mappings)
    if not owners:
        known = {name for each in bundle.loaded for name in _tables(each)}
        hint = did_you_mean(table, known) or f"there are: {', '.join(sorted(known))}"
        raise CannotAssign(f"there is no table '{table}'; {hint}")
    sheets = {_sheet(bundle, owner, table): owner.mapping.name for owner in owners}
    if len(sheets) > 1:
        shown = " or ".join(f"{name} ({each.file.name})" for each, name in sheets.items())
        raise CannotAssign(f"several mappings have a table '{table}': say --mapping {shown}")
    return next(iter(sheets))


def is_table(bundle: Bundle, name: str, mappings: Collection[str]) -> bool:
    """Whether one of these mappings has a table of this name; none there means any."""
    named = [each for each in bundle.loaded if each.mapping.name in mappings]
    return any(name in _tables(each) for each in named or bundle.loaded)


def rows_of(bundle: Bundle, table: str, mappings: Collection[str] = ()) -> dict[str, str]:
    """The rows of a table in these mappings, in a file or not, by their keys."""
    found: dict[str, str] = {}
    for owner in _owners(bundle, table, mappings):
        rule = _tables(owner)[table]
        if rule.file is not None:
            found |= _sheet(bundle, owner, table).rows
        found |= rule.rows
    return found


def defaulting(bundle: Bundle, value: str) -> list[str]:
    """The tables that give this value where no row is for a key."""
    found = {
        name
        for loaded in bundle.loaded
        for name, rule in _tables(loaded).items()
        if value and (rule.default or rows_of(bundle, name).get(ANY_OTHER)) == value
    }
    return sorted(found)


def nearest(code: str, rows: Mapping[str, str]) -> dict[str, str]:
    """The rows whose keys look most like a code, the likeliest first."""
    if len(code) > LONGEST_COMPARED:
        return {}
    keys = {same_code(k): k for k in rows if ANY_OTHER not in k and not k.startswith("#")}
    close = difflib.get_close_matches(same_code(code), keys, n=NEAR, cutoff=ALIKE)
    return {keys[each]: rows[keys[each]] for each in close}


def cells_of(sheet: Sheet, code: str, said: Mapping[str, str]) -> dict[str, str]:
    """The row for a code, by column; `said` are columns or shorthands. Raises CannotAssign."""
    parts = [part.strip() for part in (code.split("|") if len(sheet.key) > 1 else [code])]
    if len(parts) != len(sheet.key):
        shown = "|".join(sheet.key)
        raise CannotAssign(f"the key of table '{sheet.name}' has {len(sheet.key)} parts: {shown}")
    if parts[0].startswith("#") or all(part in ("", ANY_OTHER) for part in parts):
        raise CannotAssign(f"'{code}' would not be read as a key of {sheet.file.name}")
    cells = {column: value.strip() for column, value in said.items()}
    for column in cells:
        if column not in sheet.columns or column in sheet.key:
            free = [each for each in sheet.columns if each not in sheet.key]
            hint = did_you_mean(column, free) or f"it has: {', '.join(free)}"
            raise CannotAssign(f"{sheet.file.name} has no column '{column}' to set; {hint}")
    if sheet.value not in cells:
        raise CannotAssign(f"say what '{code}' means: --set {sheet.value}=…")
    cells |= zip(sheet.key, parts, strict=True)
    if not all(text.isprintable() for text in cells.values()):
        raise CannotAssign("control characters do not belong into a table")
    return cells


def column_for(sheet: Sheet, shorthand: str) -> str:
    """The column that a shorthand (modality, station) means. Raises CannotAssign."""
    if column := _column(sheet, shorthand):
        return column
    columns = ", ".join(sheet.columns)
    raise CannotAssign(
        f"table '{sheet.name}' has no column for --{shorthand}; columns of {sheet.file.name}: "
        f"{columns}"
    )


def station_row(
    bundle: Bundle, sheet: Sheet, cells: Mapping[str, str], station: str, mappings: Collection[str]
) -> tuple[Sheet, dict[str, str]] | None:
    """The row that leads to a station, for a code whose own table has no column for stations.

    `cells` are the row of the code. None where that leads there already. Raises CannotAssign.
    """
    wanted = _stations(bundle, sheet, cells, mappings)
    if wanted is None:
        raise CannotAssign(
            f"{sheet.file.name} has no column for --station, and no table of stations is keyed by "
            f"{' or '.join(dict.fromkeys((_column(sheet, 'modality') or 'modality', *sheet.key)))}"
            ": leave --station out, and say it in the mapping (ScheduledStationAETitle)"
        )
    stations, key = wanted
    there = next((v for k, v in stations.rows.items() if same_code(k) == same_code(key)), None)
    if there == station:
        return None
    if there is not None:
        raise CannotAssign(
            f"{stations.file} has {there} for every '{key}': mend that row where all go to "
            f"{station}; for '{cells[sheet.key[0]]}' alone give {sheet.file.name} a column "
            "'ae_title', and the mapping a table of stations with the same key"
        )
    return stations, cells_of(stations, key, {stations.value: station})


def _stations(
    bundle: Bundle, sheet: Sheet, cells: Mapping[str, str], mappings: Collection[str]
) -> tuple[Sheet, str] | None:
    """The table of stations in a file, with the key in it: the modality, or the code itself."""
    by_modality = cells.get(_column(sheet, "modality"), "")
    for owner in _owners(bundle, sheet.name, mappings):
        for name, rule in _tables(owner).items():
            if rule.file is None or rule.value.lower() not in SHORTHANDS["station"]:
                continue
            if by_modality and [key.lower() for key in rule.key] == ["modality"]:
                return _sheet(bundle, owner, name), by_modality
            if tuple(rule.key) == sheet.key:
                return _sheet(bundle, owner, name), "|".join(cells[key] for key in sheet.key)
    return None


def _column(sheet: Sheet, shorthand: str) -> str:
    for name in SHORTHANDS[shorthand]:
        for column in sheet.columns:
            if column.lower() == name and column not in sheet.key:
                return column
    return ""


def has_column(sheet: Sheet, shorthand: str) -> bool:
    """Whether a table has a column for what a shorthand means."""
    return bool(_column(sheet, shorthand))


def with_row(data: bytes, sheet: Sheet, cells: Mapping[str, str]) -> bytes:
    """The bytes of a CSV file with one more row, its line ends as they are."""
    end = "\r\n" if b"\r\n" in data else "\n"
    written = io.StringIO()
    row = [cells.get(column, "") for column in sheet.columns]
    csv.writer(written, lineterminator=end).writerow(row)
    whole = data if data.endswith((b"\n", b"\r")) else data + end.encode()
    return whole + written.getvalue().encode()


def _owners(bundle: Bundle, table: str, mappings: Collection[str]) -> list[Loaded]:
    having = [each for each in bundle.loaded if table in _tables(each)]
    named = [each for each in having if each.mapping.name in mappings]
    return named or having


def _tables(loaded: Loaded) -> Mapping[str, TableRule]:
    return loaded.file.tables if isinstance(loaded.file, InboundFile) else {}


def _sheet(bundle: Bundle, owner: Loaded, table: str) -> Sheet:
    rule, node = _tables(owner)[table], owner.root.at(["tables", table])
    if rule.file is None:
        raise CannotAssign(
            f"table '{table}' is written in the mapping itself: add the row at {node.place}, "
            "then `broker unmapped replay`"
        )
    path = Path(node.at(["file"]).source.name).parent / rule.file
    text = decode(bundle.files[str(path)], str(path))
    reader = csv.DictReader(io.StringIO(text))
    columns = tuple(name.strip() for name in reader.fieldnames or ())
    reader.fieldnames = list(columns)
    rows = {
        "|".join((row[column] or "").strip() for column in rule.key): (row[rule.value] or "")
        for row in reader
    }
    exact = rule.case == "exact"
    return Sheet(table, path, tuple(rule.key), rule.value, columns, exact, rows | rule.rows)
