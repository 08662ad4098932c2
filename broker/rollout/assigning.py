"""A row for a code that a table did not have: checked, written into the folder, put in force."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from broker.mapping.assigning import CannotAssign, Sheet, with_row
from broker.mapping.document import why
from broker.mapping.packing import read_folder
from broker.rollout.deploying import Deployed, deploy, load_version
from broker.settings import Settings
from broker.store.executors import Store


def assign(
    store: Store, settings: Settings, sheet: Sheet, cells: Mapping[str, str], *, by: str, at: float
) -> Deployed:
    """Add a row to a table and put the folder in force; nothing is written when anything is wrong.

    `by` and `at` as in `deploy`. Raises CannotAssign, Complaints, StoreUnavailable.
    """
    files, folder = read_folder(settings.mappings), settings.mappings
    name = _name(sheet.file, folder)
    if name not in files:
        raise CannotAssign(
            f"{sheet.file} lies outside {folder}: add the row there, then `broker unmapped replay`"
        )
    before = files[name]
    files[name] = with_row(before, sheet, cells)
    load_version(files, folder, settings.ris, examples=True)
    try:
        _write(folder / name, before, files[name])
    except OSError as error:
        raise CannotAssign(
            f"{sheet.file} cannot be written ({why(error)}): add the row where the folder comes "
            "from, then `broker map reload` and `broker unmapped replay`"
        ) from error
    return deploy(store, settings, by=by, at=at)


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
