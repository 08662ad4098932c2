"""What to ask Redis and how to read its answer, without talking to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Generic, TypeVar

from broker.store.keys import PREFIX

Word = str | bytes | int | float
T = TypeVar("T")


@dataclass(frozen=True)
class Script:
    """A Lua script and the SHA-1 by which Redis remembers it."""

    text: str
    sha: str


@dataclass(frozen=True)
class Call(Generic[T]):
    """One command, or one script with its keys and arguments; `read` makes the reply a value.

    `promised`: what it gives is promised to others, who rely on it if the server dies right after.
    `about` is what the words were made from, for who rehearses a call.
    """

    words: tuple[Word, ...]
    read: Callable[[Any], T]
    script: Script | None = None
    keys: tuple[str, ...] = (PREFIX,)
    about: object = None
    promised: bool = False

    def command(self, *, whole_script: bool = False) -> tuple[Word, ...]:
        """Give the words to send; a script goes by its SHA-1 unless Redis has forgotten it."""
        if self.script is None:
            return self.words
        run = ("EVAL", self.script.text) if whole_script else ("EVALSHA", self.script.sha)
        return (*run, len(self.keys), *self.keys, *self.words)


@cache
def script(name: str) -> Script:
    """Read a Lua script of this room."""
    text = _scripts().joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def read_scripts() -> None:
    """Read all scripts now: a process that lasts must not meet those of a later version."""
    for file in _scripts().iterdir():
        script(file.name.removesuffix(".lua"))


def _scripts() -> Traversable:
    return files(__package__) / "scripts"


def text(reply: Any) -> str:
    """Read a reply as text."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def texts(reply: Any) -> list[str]:
    """Read a list of replies as texts."""
    return [text(word) for word in reply or ()]


def pairs(reply: list[Any]) -> list[tuple[str, bytes]]:
    """Read a flat list as pairs of a key and a raw value."""
    return [(text(key), value) for key, value in zip(reply[::2], reply[1::2], strict=True)]


def entries(reply: list[Any]) -> list[tuple[str, dict[bytes, bytes]]]:
    """Read the entries of a stream: ID and fields, which redis-py has made a dict of."""
    return [(text(name), _fields(fields)) for name, fields in reply]


def _fields(fields: Any) -> dict[bytes, bytes]:
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))
