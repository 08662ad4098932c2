"""Mapping bundles by the hash of their content: which is in force, which were, why one is not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from broker.store import keys
from broker.store.call import Call, script

VERSIONS = 20
ACTIVATIONS = 100
LONGEST_REASON = 8000
SHORT = 12


@dataclass(frozen=True)
class Activation:
    """A bundle that came into force at `at` (epoch s).

    `by` is start | reload | watch | rollback with who asked, `origin` the host and folder that it
    was read from, '' for one that came from the history.
    """

    version: str
    at: float
    by: str
    origin: str = ""

    @property
    def short(self) -> str:
        """The version as people see it."""
        return self.version[:SHORT]


@dataclass(frozen=True)
class Failure:
    """An attempt to put other mappings in force that failed at `at` (epoch s), and why."""

    at: float
    by: str
    reason: str


def put(version: str, files: Mapping[str, bytes]) -> Call[bool]:
    """Keep the files of a bundle by their names in its folder; it is not in force thereby."""
    texts = {name: data.decode("latin-1") for name, data in sorted(files.items())}
    packed = zlib.compress(json.dumps(texts).encode())
    return Call(("HSET", keys.BUNDLES, version, packed), lambda reply: reply is not None)


def get(version: str) -> Call[dict[str, bytes] | None]:
    """Give the files of a bundle, None when it is not kept (any more)."""
    return Call(("HGET", keys.BUNDLES, version), _files)


def activate(version: str, *, at: float, by: str, origin: str = "") -> Call[bool]:
    """Put a bundle in force; False when it is not kept.

    Arguments are those of an Activation. The last 20 versions that were in force stay, a failure
    noted before is forgotten.
    """
    entry = json.dumps(asdict(Activation(version, at, by, origin)))
    return Call((version, entry, VERSIONS, ACTIVATIONS), bool, script("activate"))


def active() -> Call[Activation | None]:
    """Give the bundle that is in force, None when there never was one."""
    return Call(("LINDEX", keys.ACTIVATIONS, 0), _activation)


def history() -> Call[list[Activation]]:
    """Give every activation of bundles that are kept, newest first."""
    return Call(("LRANGE", keys.ACTIVATIONS, 0, -1), _history)


def note_failure(failure: Failure) -> Call[bool]:
    """Note why other mappings are not in force, till an activation succeeds."""
    noted = Failure(failure.at, failure.by, failure.reason[:LONGEST_REASON])
    return Call(("SET", keys.FAILED_RELOAD, json.dumps(asdict(noted))), bool)


def forget_failure() -> Call[bool]:
    """Forget the failure: what is in force is what is wanted."""
    return Call(("DEL", keys.FAILED_RELOAD), bool)


def failure() -> Call[Failure | None]:
    """Give the last attempt that failed, None when the last one did not."""
    return Call(
        ("GET", keys.FAILED_RELOAD), lambda reply: Failure(**json.loads(reply)) if reply else None
    )


def versions(activations: Iterable[Activation]) -> list[Activation]:
    """Give the newest activation of each version, newest first."""
    newest: dict[str, Activation] = {}
    for each in activations:
        newest.setdefault(each.version, each)
    return list(newest.values())


def _files(reply: bytes | None) -> dict[str, bytes] | None:
    if reply is None:
        return None
    texts: dict[str, str] = json.loads(zlib.decompress(reply))
    return {name: text.encode("latin-1") for name, text in texts.items()}


def _activation(reply: bytes | None) -> Activation | None:
    return Activation(**json.loads(reply)) if reply else None


def _history(reply: list[Any]) -> list[Activation]:
    return [Activation(**json.loads(entry)) for entry in reply]
