"""Secrets: where they may stand beside broker.yaml, and what keeps them out of all that is said."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.mapping.text.nodes import Complaint, Complaints, Node, Source

SECRETS: Final = (("redis", "password"), ("redis", "sentinel", "password"), ("console", "password"))
"""A secret has no place on a command line; NAME_FILE, or a credential of systemd, holds it."""
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
LONGEST: Final = 4096
HIDDEN: Final = "***"
_IN_URL: Final = re.compile(r"(\w+://(?:[^\s/:@]*:)?)\S*(?=@)")
_IN_QUERY: Final = re.compile(r"([?&](?:ssl_)?password=)[^\s&]*")
_FIRST_KEY: Final = re.compile(r" *[0-9]+ \| [\s{\[-]*(?:[A-Za-z_]+:(?=\s|$))?")
_UNKNOWN_KEY: Final = re.compile("unknown key '(.*)'")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_.-]{1,40}")
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_QUOTE: Final = re.compile(r"[\"']")
_SIGN_OR_VARIABLE: Final = re.compile(r"\W|BROKER_[A-Z0-9_]+")
_BEHIND_KEY: Final = re.compile(r"(\bpassword[\"']?\s*:[ \t]*)\S[^\n]*")


def unsaid(text: str) -> str:
    """The text without passwords: those in URLs, and whatever stands behind such a key."""
    for secret in (_IN_URL, _IN_QUERY, _BEHIND_KEY):
        text = secret.sub(rf"\1{HIDDEN}", text)
    return text


def discreet(complaints: Complaints, keys: Collection[str], *, unread: bool = False) -> Complaints:
    """The same complaints without values: where a key is misread, any of them may be a password.

    Of a line they quote its first key, of words those that are `keys`. `unread` are complaints of
    a file that is no YAML: their words are the file's.
    """

    def told(one: Complaint) -> Complaint:
        fact, hint = unsaid(one.fact), unsaid(one.hint)
        if unread and not _quotes_only(keys, fact):
            fact = "cannot be read: look at its quotes, its colons and where it begins"
        elif (found := _UNKNOWN_KEY.match(fact)) and not _PLAIN_KEY.fullmatch(found[1]):
            fact = "unknown key"
        ours = hint.startswith("did you mean ") or _quotes_only(keys, hint)
        shown = hint if ours else ""
        return replace(one, fact=fact, hint=shown, snippet=_keys_alone(one.snippet))

    return Complaints(map(told, complaints.complaints))


def _quotes_only(keys: Collection[str], text: str) -> bool:
    """Whether a text quotes nothing but keys, variables and signs."""
    quoted = (each[1:-1] for each in _QUOTED.findall(text))
    known = all(
        each.removesuffix(":") in keys or _SIGN_OR_VARIABLE.fullmatch(each) for each in quoted
    )
    return known and not _QUOTE.search(_QUOTED.sub("", text))


def _keys_alone(snippet: str) -> str:
    """A quoted line up to its first key, and where in it the mistake is."""
    line, _, carets = snippet.partition("\n")
    found = _FIRST_KEY.match(line)
    if found is None:
        return ""
    shown = f"{found[0]} \N{HORIZONTAL ELLIPSIS}" if len(line) > len(found[0]) else line
    at = min(len(carets) - len(carets.lstrip()), len(shown) - 1)
    return f"{shown}\n{' ' * at}^"


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
