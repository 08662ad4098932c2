"""Secrets: where they may stand beside broker.yaml, and what keeps them out of all that is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.mapping.text.nodes import Complaint, Complaints, Node, Source

SECRETS: Final = (("redis", "password"), ("redis", "sentinel", "password"), ("console", "password"))
"""A secret has no place on a command line; NAME_FILE, or a credential of systemd, holds it."""
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
LONGEST: Final = 4096
HIDDEN: Final = "***"
_IN_URL: Final = re.compile(r"(\w+://[^\s/:@]*:)[^\s@]*(?=@)")
_BEHIND_KEY: Final = re.compile(r"(\bpassword[\"']?\s*:[ \t]*)\S[^\n]*")


def unsaid(text: str) -> str:
    """The text without passwords: those in URLs, and whatever stands behind such a key."""
    return _BEHIND_KEY.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}", text))


def discreet(complaints: Complaints) -> Complaints:
    """The same complaints, which quote lines of a file, without its passwords."""

    def told(one: Complaint) -> Complaint:
        fact, hint, snippet = map(unsaid, (one.fact, one.hint, one.snippet))
        return replace(one, fact=fact, hint=hint, snippet=snippet)

    return Complaints(map(told, complaints.complaints))


def with_secrets(tree: Node, environ: Mapping[str, str]) -> Node:
    """The tree with each secret that a file holds, in its first line. Raises Complaints.

    A variable wins; then comes the credential of systemd (redis.password), then password_file.
    """
    for keys in SECRETS:
        tree = _with_secret(tree, keys, ".".join(keys), environ)
    return tree


def _with_secret(
    tree: Node, keys: tuple[str, ...], credential: str, environ: Mapping[str, str]
) -> Node:
    name, *deeper = keys
    if deeper:
        inner = tree.entries.get(name, Node({}, tree.source, 0, 0))
        found = _with_secret(inner, tuple(deeper), credential, environ)
        return tree if found is inner else replace(tree, value={**tree.entries, name: found})
    said = tree.entries.get(name)
    if said is not None and not said.line:  # by a variable
        return tree
    for source, path in _files(tree, credential, f"{name}_file", environ):
        if said is not None and source is not None:
            raise Complaints([source.complaint(f"say {name} or {name}_file, not both")])
        said = Node(_read(path, source), Source(str(path)), 0, 0)
        return replace(tree, value={**tree.entries, name: said})
    return tree


def _files(
    inner: Node, credential: str, name: str, environ: Mapping[str, str]
) -> Iterator[tuple[Node | None, Path]]:
    """Where a secret may lie, the first of them first."""
    given = environ.get(CREDENTIALS)
    if given and (path := Path(given) / credential).is_file():
        yield None, path
    node = inner.entries.get(name)
    if node is not None and node.text:
        yield node, Path(node.text)


def _read(path: Path, node: Node | None) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(LONGEST).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        fact = f"{path}: {getattr(error, 'strerror', None) or 'it is not text'}"
        told = node.complaint(fact) if node is not None else Complaint(str(path), 0, 0, fact)
        raise Complaints([told]) from error
