"""A copy of the embedded store at one moment, taken while it runs; and back into a new folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from broker.store import stamping
from broker.store.call import Call, text
from broker.store.executors import Store
from broker.store.server import DataLock, EmbeddedServer
from broker.store.stamping import Release, ServerProblem, Stamp

NAME: Final = "worklist-broker backup"
VERSION: Final = 1
MANIFEST, DUMP = "MANIFEST.json", "dump.rdb"
BLOCK: Final = 1 << 20
LONGEST_S: Final = 3600.0
TO_LOAD: Final = "appendonly.aof"
"""A server with an append-only file looks at nothing else, and takes a dump for its beginning."""


class NoBackup(Exception):
    """A file that is no whole backup, or a folder that must not be restored into."""


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself: when (ISO 8601), what wrote it, its dump, how many keys."""

    taken: str
    site: str
    stamp: Stamp
    size: int
    sha256: str
    keys: int

    def written(self) -> dict[str, Any]:
        """Give it as plain values."""
        facts = {**vars(self), "stamp": self.stamp.written()}
        return {"file": NAME, "version": VERSION, **facts}


def take(
    store: Store,
    folder: Path,
    target: Path,
    *,
    taken: str,
    site: str,
    seen: Callable[[float], None],
) -> Manifest:
    """Copy the store of the data `folder` into a new file, 0600, whole or not at all.

    `seen` is told how far it is (0 to 1). Raises StoreUnavailable, OSError, ServerProblem.
    """
    _save(store)
    part = target.with_name(f"{target.name}.part")
    with (folder / "redis" / DUMP).open("rb") as dump:  # stays the same when another one is saved
        size = os.fstat(dump.fileno()).st_size
        digest = _sum(dump, size, lambda done: seen(done / 2))
        stamp = stamping.found(folder / "redis")
        if stamp is None:
            raise ServerProblem(
                f"{folder / 'redis'} has no stamp: is it the folder of that broker?"
            )
        keys = store.run(Call(("DBSIZE",), int))
        manifest = Manifest(taken, site, stamp, size, digest, keys)
        dump.seek(0)
        with suppress(FileNotFoundError):
            part.unlink()
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                _add(tar, MANIFEST, BytesIO(_dumped(manifest)), len(_dumped(manifest)))
                _add(tar, DUMP, _Watched(dump, size, lambda done: seen(0.5 + done / 2)), size)
            file.flush()
            os.fsync(file.fileno())
    part.replace(target)
    return manifest


def read(path: Path) -> Manifest:
    """Read what a backup says of itself. Raises NoBackup, OSError."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            return _manifest(path, tar)
    except (tarfile.TarError, EOFError) as error:
        raise NoBackup(f"{path}: no file of `broker backup` ({error})") from error


def restore(path: Path, data: Path, binary: Path, *, max_memory: int) -> tuple[Manifest, int]:
    """Put a backup into a data folder without a store; gives how many keys the server has loaded.

    Nothing is left of one that fails. Raises NoBackup, ServerProblem, OSError.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with DataLock(data):
        folder, trial = data / "redis", data / "restoring"
        if folder.exists() and any(folder.iterdir()):
            raise NoBackup(
                f"{folder} is not empty; move it away (the backup would replace that store), or "
                "restore into another folder (BROKER_DATA)"
            )
        shutil.rmtree(trial, ignore_errors=True)
        try:
            manifest = _unpack(path, trial / "redis")
            keys = _tried(trial, manifest, binary, max_memory)
            (trial / "redis").replace(folder)
        finally:
            shutil.rmtree(trial, ignore_errors=True)
    return manifest, keys


def _save(store: Store) -> None:
    """Have a dump of this moment or a later one written, and wait for it."""
    last = store.run(Call(("LASTSAVE",), _seconds))
    deadline = time.monotonic() + LONGEST_S
    while store.run(Call(("TIME",), lambda reply: int(reply[0]))) <= last:
        time.sleep(0.05)  # or a new one could not be told from that one
    asked = False
    while time.monotonic() < deadline:
        info: Any = store.run(Call(("INFO", "persistence"), _facts))
        if info["rdb_bgsave_in_progress"] == "0":
            if asked and info["rdb_last_bgsave_status"] != "ok":
                raise ServerProblem(
                    "Redis could not write its dump; see redis.log in the data folder"
                )
            if asked and store.run(Call(("LASTSAVE",), _seconds)) > last:
                return
            if not asked:
                store.run(Call(("BGSAVE", "SCHEDULE"), text))
                asked = True
        time.sleep(0.05)
    raise ServerProblem(f"Redis did not write its dump within {LONGEST_S:g} s")


def _seconds(reply: Any) -> int:
    return int(reply.timestamp()) if hasattr(reply, "timestamp") else int(reply)


def _facts(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {name: str(value) for name, value in reply.items()}
    lines = (line.partition(":") for line in text(reply).splitlines())
    return {name: value for name, _, value in lines if value}


def _sum(file: IO[bytes], size: int, seen: Callable[[float], None]) -> str:
    digest, watched = hashlib.sha256(), _Watched(file, size, seen)
    while block := watched.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


class _Watched:
    """A file that tells how much of it was read (0 to 1)."""

    def __init__(self, file: IO[bytes], size: int, seen: Callable[[float], None]) -> None:
        self._file, self._size, self._seen, self._read = file, size, seen, 0

    def read(self, length: int = -1) -> bytes:
        block = self._file.read(length)
        self._read += len(block)
        self._seen(self._read / self._size if self._size else 1.0)
        return block


def _add(tar: tarfile.TarFile, name: str, file: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    tar.addfile(member, file)


def _dumped(manifest: Manifest) -> bytes:
    return (json.dumps(manifest.written(), indent=2) + "\n").encode()


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    member = tar.next()
    file = tar.extractfile(member) if member and member.name == MANIFEST else None
    try:
        said = json.loads(file.read()) if file else {}
        if said.pop("file", "") != NAME:
            raise NoBackup(f"{path}: no file of `broker backup`")
        if said.pop("version") > VERSION:
            raise NoBackup(f"{path}: of a newer broker; restore it with that one")
        return Manifest(**{**said, "stamp": stamping.read(said["stamp"])})
    except (ValueError, TypeError, KeyError) as error:
        raise NoBackup(f"{path}: its manifest is damaged; take another backup") from error


def _unpack(path: Path, folder: Path) -> Manifest:
    folder.mkdir(mode=0o700, parents=True)
    manifest = read(path)
    damaged = NoBackup(f"{path}: cut or changed: its checksum differs; take another backup")
    try:
        with tarfile.open(path, mode="r:") as tar, (folder / TO_LOAD).open("wb") as target:
            source = tar.extractfile(DUMP)
            if source is None:
                raise damaged
            shutil.copyfileobj(source, target, BLOCK)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise damaged from error
    with (folder / TO_LOAD).open("rb") as file:
        if _sum(file, manifest.size, lambda _done: None) != manifest.sha256:
            raise damaged
    return manifest


def _tried(data: Path, manifest: Manifest, binary: Path, max_memory: int) -> int:
    """Let a server load it, which stamps it; gives the number of keys."""
    server = EmbeddedServer(data, binary=binary, max_memory=max_memory)
    written: Release = manifest.stamp.server
    stamping.refuse_newer(server.folder, manifest.stamp, binary, server.release)
    server.start()
    try:
        store = Store(server.url)
        keys = store.run(Call(("DBSIZE",), int))
        store.close()
    finally:
        server.stop()
    if manifest.keys and not keys:
        raise ServerProblem(f"{binary} has loaded nothing of a backup that {written} wrote")
    return keys
