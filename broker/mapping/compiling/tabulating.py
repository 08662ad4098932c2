"""The `tables:` of a mapping file, and the CSV files beside it, to lookup tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path as FilePath

from broker.mapping.compiling.compiler import Compiler
from broker.mapping.files.rules import TableRule
from broker.mapping.text.document import decode, perhaps_meant, read_bytes, why
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.text.nodes import Complaints, Node
from broker.mapping.text.sheets import Cell, Row, Sheet, cells_of
from broker.mapping.values.tables import ANY_OTHER, table_of

Key = tuple[str, ...]
CASE = "capitals and small letters are the same here: take one away, or write 'case: exact'"


def add_tables(compiler: Compiler, rules: dict[str, TableRule]) -> None:
    """The tables of a file, for its expressions to look things up in."""
    for name, rule in rules.items():
        node = compiler.root.at(["tables", name])
        inline = dict(_inline(compiler, node, rule))
        rows = {key: rule.rows[text] for key, text in inline.items()}
        if rule.case == "ignore":
            for first, other in _alike(rows):
                fact = f"'{'|'.join(other)}' is '{'|'.join(first)}' as well"
                place = node.at(["rows"]) if "rows" in node.entries else node
                compiler.complaints.append(place.key_complaint("|".join(other), fact, CASE))
        cells = _csv(compiler, node, rule) if rule.file is not None else {}
        rows = {key: cell.text for key, cell in cells.items()} | rows
        table = table_of(
            name,
            rows.items(),
            exact=rule.case == "exact",
            default=rule.default,
            on_miss=rule.on_miss or "default",
            parts=len(rule.key),
        )
        if rule.on_miss == "default" and table.default is None:
            hint = "write 'default:', or a row for '*'"
            place = node.at(["on_miss"])
            compiler.complaints.append(place.complaint("there is no default to give", hint))
        if rule.on_miss == "reject" and table.default is not None:
            hint = "take 'on_miss' away, or the default ('default: ~', the row for '*')"
            place = node.at(["on_miss"])
            fact = "a key that is missing is refused: the default is never given"
            compiler.complaints.append(place.complaint(fact, hint))
        compiler.tables[name] = table
        firsts = {value: key for key, value in reversed(rows.items())}
        compiler.written[name] = partial(_where, node, inline, cells, firsts)


def _where(
    node: Node,
    inline: Mapping[Key, str],
    cells: Mapping[Key, Cell],
    firsts: Mapping[str, Key],
    value: str,
) -> Node:
    """Where a value of a table is written first: in a row here or of its file, or as default."""
    key = firsts.get(value)
    if key is None:
        return node.at(["default"])
    return node.at(["rows", inline[key]]) if key in inline else cells[key].node


def judge_lost_files(compiler: Compiler, root: Node) -> None:
    """Whether the files of tables are there of which a mistake of form has left only a stand-in."""
    for name, node in root.at(["tables"]).entries.items():
        where = node.entries.get("file")
        stands = compiler.root.at(["tables", name]).entries
        if where is not None and where.text and "file" not in stands:
            _beside(compiler, where, where.text)


def _inline(compiler: Compiler, node: Node, rule: TableRule) -> Iterator[tuple[Key, str]]:
    """The keys of the rows that are written here, each with its text."""
    for text in rule.rows:
        parts = text.split("|") if len(rule.key) > 1 and text != ANY_OTHER else [text]
        if len(parts) != len(rule.key) and text != ANY_OTHER:
            rows = node.at(["rows"])
            fact = f"'{text}' has {len(parts)} parts, the key has {len(rule.key)}"
            compiler.complaints.append(rows.key_complaint(text, fact, "write CT|WARD3"))
        elif text == ANY_OTHER:
            yield (ANY_OTHER,) * len(rule.key), text
        else:
            yield tuple(part.strip() for part in parts), text


def _csv(compiler: Compiler, node: Node, rule: TableRule) -> dict[Key, Cell]:
    where = node.at(["file"])
    text = _beside(compiler, where, rule.file or "")
    if text is None:
        return {}
    sheet = Sheet(text, f"{FilePath(where.source.name).parent / (rule.file or '')}")
    rows: dict[Key, Cell] = {}
    if not sheet.is_broken and _has_columns(compiler, node, rule, sheet):
        rows = _rows(sheet, rule)
    compiler.complaints.extend(sheet.complaints)
    return rows


def _rows(sheet: Sheet, rule: TableRule) -> dict[Key, Cell]:
    """The values of a sheet that has the columns of the rule; of a key twice the first holds."""
    places = [sheet.columns.index(column) for column in rule.key]
    value_place = sheet.columns.index(rule.value)
    rows: dict[Key, Cell] = {}
    for row in sheet.rows:
        key, (value,) = cells_of(row, places), cells_of(row, [value_place])
        if not any(key):
            column = sheet.place_of(row.line, places[0])
            hint = "write the key, or * for every other one"
            sheet.complain(row.line, f"'{value[:40]}' has no key", hint, column=column)
            continue
        _judge_row(sheet, row, key, value, value_place)
        if key in rows:
            fact = f"'{'|'.join(key)}' again; the first row holds (line {rows[key].line})"
            sheet.complain(row.line, fact)
        rows.setdefault(key, Cell(value, sheet, row.line, value_place))
    if rule.case == "ignore":
        for first, other in _alike({key: cell.text for key, cell in rows.items()}):
            line = rows[first].line
            fact = f"'{'|'.join(other)}' is '{'|'.join(first)}' of line {line} as well"
            sheet.complain(rows[other].line, fact, CASE)
    return rows


def _judge_row(sheet: Sheet, row: Row, key: tuple[str, ...], value: str, value_place: int) -> None:
    if len(row.cells) > len(sheet.columns):
        column = sheet.place_of(row.line, len(sheet.columns))
        hint = 'a value with a comma stands in quotes: "a, b"'
        sheet.complain(row.line, "has more cells than columns", hint, column=column)
    elif len(row.cells) <= value_place:
        hint = f"write its {sheet.columns[value_place]} after a comma, or take the row away"
        sheet.complain(row.line, f"'{'|'.join(key)}' has no value", hint)
    elif not value and set(key) != {ANY_OTHER}:  # nothing for every other key is a decision
        column = sheet.place_of(row.line, value_place)
        hint = "nothing is filled where it is looked up"
        fact = f"the value of '{'|'.join(key)}' is empty"
        sheet.complain(row.line, fact, hint, column=column, severity="warning")


def _alike(rows: Mapping[Key, str]) -> Iterator[tuple[Key, Key]]:
    """Keys that differ in capitals only and mean different values, each with the first like it."""
    seen: dict[Key, Key] = {}
    for key, value in rows.items():
        first = seen.setdefault(tuple(part.upper() for part in key), key)
        if rows[first] != value:
            yield first, key


def _has_columns(compiler: Compiler, node: Node, rule: TableRule, sheet: Sheet) -> bool:
    """Whether a sheet has the columns of the rule, each of them once."""
    wanted: list[tuple[str, list[str | int]]] = [
        (column, ["key", number]) for number, column in enumerate(rule.key)
    ]
    wanted.append((rule.value, ["value"]))
    missing = [(column, where) for column, where in wanted if column not in sheet.columns]
    for column, _ in wanted:
        if sheet.columns.count(column) > 1:
            again = sheet.columns.index(column, sheet.columns.index(column) + 1)
            place = sheet.place_of(sheet.heading, again)
            hint = "give it a name of its own, or take it away"
            sheet.complain(sheet.heading, f"the column '{column}' again", hint, column=place)
            missing.append((column, []))
    lacking = [(column, where) for column, where in missing if where]
    both = len(lacking) > 1 and not {"key", "value"} & node.entries.keys()
    for column, where in lacking[:1] if both else lacking:
        said = where[0] in node.entries
        hint = did_you_mean(column, sheet.columns) or f"columns: {', '.join(sheet.columns)}"
        if not said:
            hint += (
                "; say which are meant: key: …, value: …" if both else f"; say which: {where[0]}: …"
            )
        what = "no columns 'key' and 'value'" if both else f"no column '{column}'"
        named = node.at(where) if said else node.at(["file"])
        compiler.complaints.append(named.complaint(f"{sheet.source.name} has {what}", hint))
    return not missing


def _beside(compiler: Compiler, node: Node, name: str) -> str | None:
    """The text of a file named in the mapping; it must lie below the mapping's folder."""
    folder = FilePath(node.source.name).parent
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        compiler.complaints.append(node.complaint("lies outside the folder of the mapping"))
        return None
    try:
        data = read_bytes(folder / name)
    except OSError as error:
        fact, hint = f"'{name}' cannot be read: {why(error)}", perhaps_meant(folder, name)
        compiler.complaints.append(node.complaint(fact, hint))
        return None
    compiler.files[str(folder / name)] = data
    try:
        return decode(data, str(folder / name))
    except Complaints as complaints:
        compiler.complaints.extend(complaints.complaints)
        return None
