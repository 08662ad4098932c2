"""Functions on plain texts and on several of them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from broker.hl7.message import NULL
from broker.mapping.values.evaluation import Evaluation, Value
from broker.worklist.changes import FILLS_GAPS
from broker.worklist.identity import derived_uid as uid_of

UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
UID_RULE = "send up to 64 digits and dots, 1.2.3: no part is empty or begins with 0 (PS3.5 9.1)"
SH_LENGTH = 16
PATTERN_INPUT = 250
"""Characters that a pattern looks at; `syntax.safe_pattern` reckons with it."""
# Format characters of Unicode (Cf) that nobody sees: what turns or hides letters can make one name
# look like another. Joiners are needed in the scripts of U+0600 to U+1CFF, and nowhere else.
INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0001\U000e0020-\U000e007f]|(?<![\u0600-\u1cff])[\u200c\u200d]"
)


def trim(_: Evaluation, text: str) -> str:
    return text.strip()


def upper(_: Evaluation, text: str) -> str:
    return text.upper()


def lower(_: Evaluation, text: str) -> str:
    return text.lower()


def digits(_: Evaluation, text: str) -> str:
    return re.sub(r"\D", "", text)


def replace(_: Evaluation, text: str, old: str, new: str) -> str:
    return text.replace(old, new)


def left(_: Evaluation, text: str, length: int) -> str:
    return text[:length]


def right(_: Evaluation, text: str, length: int) -> str:
    return text[-length:]


def extract(_: Evaluation, text: str, pattern: re.Pattern[str]) -> str:
    """What the pattern finds first: its first group, or all of it."""
    match = pattern.search(text[:PATTERN_INPUT])
    if match is None:
        return ""
    return (match[1] if pattern.groups else match[0]) or ""


def mapped(evaluation: Evaluation, text: str, *pairs: str) -> str:
    """A table in one line; '*' stands for every other text."""
    rows = dict(zip(pairs[::2], pairs[1::2], strict=True))
    found = rows.get(text.strip())
    if found is not None:
        return found
    if "*" in rows:
        evaluation.rank = FILLS_GAPS
        return rows["*"]
    evaluation.warn("is not in the map")
    return ""


def default(evaluation: Evaluation, value: Value, text: str) -> Value:
    if value:
        return value
    evaluation.rank = FILLS_GAPS
    return text


def first(_: Evaluation, value: Value) -> Value:
    return value[0] if isinstance(value, list) and value else value


def last(_: Evaluation, value: Value) -> Value:
    return value[-1] if isinstance(value, list) and value else value


def concat(_: Evaluation, value: Value, separator: str = " ") -> Value:
    if value == NULL:
        return NULL
    return separator.join(_said(value))


def lines(_: Evaluation, value: Value) -> Value:
    return concat(_, value, "\r\n")


def split(_: Evaluation, value: Value, separator: str, number: int = 0) -> Value:
    if value == NULL or not separator:
        return value
    parts = [text.split(separator) for text in _said(value)]
    if number:
        return [each[number - 1].strip() for each in parts if len(each) >= number]
    return [text.strip() for each in parts for text in each if text.strip()]


def _said(value: Value) -> list[str]:
    texts: list[Any] = value if isinstance(value, list) else [value]
    return [text for text in texts if isinstance(text, str) and text and text != NULL]


def uid(evaluation: Evaluation, text: str) -> str:
    text = text.strip()
    if len(text) <= 64 and UID.fullmatch(text):
        return text
    evaluation.warn("is not a valid UID")
    return ""


def derived(evaluation: Evaluation, text: str, prefix: str = "") -> str:
    """Sixteen characters at most, the same for the same issuer and text for ever."""
    evaluation.rank = FILLS_GAPS
    return surrogate(evaluation, text, prefix)


def surrogate(evaluation: Evaluation, text: str, prefix: str = "") -> str:
    """What stands for a number that does not fit: stable, scoped by issuer, 16 characters."""
    digest = hashlib.sha256(f"{evaluation.issuer}\x1f{text}".encode()).hexdigest().upper()
    return (prefix + digest)[:SH_LENGTH]


def derived_uid(evaluation: Evaluation, text: str) -> str:
    """A UID under 2.25 (PS3.5 B.2), the same for the same issuer and text for ever."""
    evaluation.rank = FILLS_GAPS
    return uid_of(evaluation.issuer, text)
