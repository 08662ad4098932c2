"""What people write after the habits of other notations, and how it is written here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.mapping.standards.dictionaries import is_segment

FIELD = r"[A-Z][A-Z0-9]{2}-\d+(?:\.\d+)*"


@dataclass(frozen=True, slots=True)
class Habit:
    """A way to write something elsewhere; `remedy` is a template of `re.Match.expand`."""

    pattern: re.Pattern[str]
    remedy: str
    # Whether its groups are a segment and the numbers of a path.
    segment: bool = False


def _habit(pattern: str, remedy: str, *, segment: bool = False) -> Habit:
    return Habit(re.compile(pattern), remedy, segment)


ANYWHERE = (
    _habit(rf"({FIELD})\((\w+)\)", r"write \1[\2]"),
    _habit(rf"({FIELD})[,^](\d+)", r"write \1.\2"),
    _habit(rf"({FIELD})\.\.(\d+)", r"write \1.\2"),
    _habit(
        r"\b([A-Za-z][A-Za-z0-9]{2})(?:[._ :/^|#]|-(?=\d))?(\d{1,3}(?:\.\d+)*)\b",
        "",
        segment=True,
    ),
    _habit(r"[\u2018\u2019\u201a\u201b`\u00b4]", "the quotes of a text are plain ones: '"),
    _habit(r"[\u201c\u201d\u201e\u00ab\u00bb\"]", "texts stand in single quotes: '"),
    _habit(r"[\u2010-\u2015\u2212]", "between segment and field stands a plain -"),
    _habit(r"\$\{?(\w+)\}?", r"names stand without signs: \1"),
    _habit(r";", "nothing stands between or after expressions: take it away"),
)
EXPRESSIONS = (
    *ANYWHERE,
    _habit(r"\|\||(?<!\?)\?(?!\?)|\bor\b", "write ?? for what stands in where nothing is said"),
    _habit(r"&&?|\band\b", "write + to put texts together, as PID-5.1 + ' ' + PID-5.2"),
)
CONDITIONS = (
    _habit(r"={2,}|=\s+=", "write a single ="),
    _habit(r"<>|=!|~=", "write !="),
    _habit(r"[<>]=?", "compare with = != in matches valued"),
    _habit(r"!(?!=)", "write not"),
    _habit(r"&&?", "write and"),
    _habit(r"\|\|?", "write or"),
    _habit(r"\bis not (?:empty|null|missing)\b|\bnot (?:empty|null|missing)\b", "write valued"),
    _habit(r"\b(?:is )?(?:empty|null|missing|absent)\b", "write not valued"),
    _habit(r"\b(?:exists|present|defined|set)\b", "write valued"),
    _habit(r"\b(?:is|equals|eq)\b", "write ="),
    _habit(r"\b(?:like|regexp?|contains|startswith)\b|~", "write matches '…', as matches 'MR.*'"),
    _habit(r"\bmatches\s+[^'\s][^)]*", "a pattern stands in quotes: matches 'MR.*'"),
    _habit(r"\bin\s+[^(\s][^)]*", "a list stands in ( ), as in (NW, XO)"),
    _habit(r"=\s*\w+\s*,", "several values are written in (NW, XO)"),
    _habit(r"\([^)]*\w\s+\w", "commas stand between the values, as in (NW, XO)"),
    _habit(r"=\s*[A-Z][A-Z0-9]{2}-\d", "the field stands on the left, a word or text on the right"),
    *ANYWHERE,
)
WORDS = re.compile(r"\b(?i:and|or|not|in|matches|valued)\b")


def remedy(text: str, offset: int, *, condition: bool) -> str:
    """How what stands at an offset of an expression is written here, '' for no idea."""
    for match in WORDS.finditer(text) if condition else ():
        if match.start() <= offset <= match.end() and not match[0].islower():
            return f"write it small: {match[0].lower()}"
    for habit in CONDITIONS if condition else EXPRESSIONS:
        for match in habit.pattern.finditer(text):
            if not match.start() <= offset <= match.end():
                continue
            if not habit.segment:
                return match.expand(habit.remedy)
            path = f"{match[1].upper()}-{match[2]}"
            if path != match[0] and is_segment(match[1].upper()):
                return f"write {path}"
    return ""
