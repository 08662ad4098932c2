"""What wrote a folder of data, and who may open it: the rules of upgrade and downgrade."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

FORMAT = 4
"""Of the data: an older broker must not write into it; what each brought says store.indexing."""
STAMP = "VERSION"
NEW_FORM = "appendonlydir"
"""Where servers from 7.0 on keep what was written; an older one does not look there."""


class ServerProblem(Exception):
    """Redis cannot be had; the text says what is wrong and what to do."""


class DataTooNew(ServerProblem):
    """The data was written by a server or a broker that is newer than this one."""


class StampDamaged(ServerProblem):
    """Nobody can say what wrote the data."""


@dataclass(frozen=True, order=True, slots=True)
class Release:
    """A server's version. Valkey writes what Redis up to 7.2 can read, and the other way round."""

    major: int
    minor: int
    patch: int = 0
    product: str = "redis"

    def __str__(self) -> str:
        return f"{self.product} {self.major}.{self.minor}.{self.patch}"

    def opens(self, written: Release) -> bool:
        """Whether this server reads what `written` wrote; a lower version opens it *empty*."""
        ours, theirs = (self.major, self.minor), (written.major, written.minor)
        if self.product == written.product:
            return ours >= theirs
        return self.product == "valkey" and theirs <= (7, 2)


@dataclass(frozen=True)
class Stamp:
    """What wrote a folder of data last: form of the data, server, version of the broker."""

    format: int
    server: Release
    broker: str = ""

    def written(self) -> dict[str, Any]:
        """Give it as plain values."""
        server = {name: getattr(self.server, name) for name in Release.__slots__}
        return {"format": self.format, "broker": self.broker, "server": server}


def of_ours(server: Release) -> Stamp:
    """Give what this broker writes with such a server."""
    return Stamp(FORMAT, server, metadata.version("worklist-broker"))


def read(values: Any) -> Stamp:
    """Read plain values. Raises ValueError, TypeError or KeyError for what is no stamp."""
    form, server = values["format"], Release(**values["server"])
    if not isinstance(form, int):
        raise TypeError("format")
    return Stamp(form, server, str(values.get("broker", "")))


def found(folder: Path) -> Stamp | None:
    """Give what wrote a folder, None of one that is new. Raises StampDamaged.

    A run that was killed while it began can leave the form of 7.0 behind an older stamp.
    """
    new_form = (folder / NEW_FORM).exists()
    try:
        stamp = read(json.loads((folder / STAMP).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Stamp(1, Release(7, 0)) if new_form else None
    except (ValueError, TypeError, KeyError) as error:
        raise StampDamaged(
            f"{folder / STAMP} is damaged; restore the folder from a backup (`broker restore`)"
        ) from error
    if new_form and stamp.server.product == "redis" and stamp.server < Release(7, 0):
        return Stamp(stamp.format, Release(7, 0), stamp.broker)
    return stamp


def refuse_newer(folder: Path, stamp: Stamp | None, binary: Path, server: Release) -> None:
    """Refuse, before it is touched, what this broker or server cannot read. Raises DataTooNew."""
    if stamp is None:
        return
    if stamp.format > FORMAT:
        newer = f"broker {stamp.broker}" if stamp.broker else "a newer broker"
        raise DataTooNew(
            f"{folder} was written by {newer} in format {stamp.format}, and this one knows formats "
            f"up to {FORMAT}: a newer broker has to open it; install that one again. To go back "
            "for good, let it `broker export` and import that here into an empty folder"
        )
    if not server.opens(stamp.server):
        raise DataTooNew(
            f"{folder} was written by {stamp.server} and {binary} is {server}, which cannot read "
            f"it (it would show an empty worklist); install {stamp.server} or newer, or name one "
            "as redis.server. To go back for good, `broker export` with the newer one and import "
            "that here into an empty folder"
        )


def put(folder: Path, stamp: Stamp) -> None:
    """Write the stamp, whole or not at all, also where the power fails."""
    path = folder / STAMP
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(json.dumps(stamp.written()) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
