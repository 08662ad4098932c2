"""A row for a code that a table did not have: checked, written into the folder, put in force."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from broker.mapping.assigning import CannotAssign, Sheet, with_row
from broker.mapping.packing import read_folder
from broker.mapping.text.document import why
from broker.mapping.text.nodes import Complaint
from broker.rollout.deploying import deploy, load_version
from broker.rollout.outcome import Deployed
from broker.settings import Settings
from broker.store.executors import Store


def assign(
    store: Store,
    settings: Settings,
    rows: Sequence[tuple[Sheet, Mapping[str, str]]],
    *,
    by: str,
    at: float,
    force: bool = False,
) -> tuple[Deployed, tuple[Complaint, ...]]:
    """Add rows to tables and put the folder in force; nothing is written when anything is wrong.

    What is odd about a row is wrong too, unless it is `force`d: then it is given. `by` and `at` as
    in `deploy`. Raises CannotAssign, Complaints, StoreUnavailable.
    """
    files, folder = read_folder(settings.mappings), settings.mappings
    before = dict(files)
    for sheet, cells in rows:
        name = _name(sheet.file, folder)
        if name not in files:
            raise CannotAssign(
                f"{sheet.file} lies outside {folder}: add the row there, then "
                "`broker unmapped replay`"
            )
        files[name] = with_row(files[name], sheet, cells)
    bundle = load_version(files, folder, settings.ris, examples=True)
    told = tuple(f"'{cells[sheet.value]}' of table '{sheet.name}'" for sheet, cells in rows)
    odd = tuple(each for each in bundle.warnings if each.fact.startswith(told))
    if odd and not force:
        facts = "; ".join(dict.fromkeys(f"{each.fact} — {each.hint}" for each in odd))
        raise CannotAssign(f"{facts}; nothing is written (--force does it all the same)")
    changed = {name: before[name] for name in files if files[name] != before[name]}
    _write_all(folder, changed, files)
    return deploy(store, settings, by=by, at=at), odd


def _write_all(folder: Path, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """Replace some files; those that were are put back where one cannot be."""
    done: list[str] = []
    for name, data in before.items():
        try:
            _write(folder / name, data, after[name])
        except (OSError, CannotAssign) as error:
            with suppress(OSError, CannotAssign):
                for each in done:
                    _write(folder / each, after[each], before[each])
            if isinstance(error, CannotAssign):
                raise
            raise CannotAssign(
                f"{folder / name} cannot be written ({why(error)}): add the row where the folder "
                "comes from, then `broker map reload` and `broker unmapped replay`"
            ) from error
        done.append(name)


def _name(file: Path, folder: Path) -> str:
    path = Path(os.path.normpath(file))
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""


def _write(path: Path, before: bytes, after: bytes) -> None:
    """Replace a file at once, wherever a link leads; its permissions stay."""
    path = path.resolve()
    new = path.with_name(f".{path.name}.new")  # hidden: no part of a mapping
    try:
        with new.open("wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, new)
        if path.read_bytes() != before:
            raise CannotAssign(f"{path} was edited at the same time; try again")
        new.replace(path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
