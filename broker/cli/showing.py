"""One archived message whole: raw, parsed, mapped and as it was answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from broker.cli.explaining import outcome_lines
from broker.cli.map.trying import plain_outcome
from broker.mapping.standards.naming import Named, named, version_for
from broker.mapping.trials.trying import Trial, try_message
from broker.rollout.past import mappings_of

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.archive import Archived
    from broker.store.executors import Store

INDENT = "  "


@dataclass(frozen=True)
class Shown:
    """A message with what a mapping of version `by` makes of it; `remark` says if it is another."""

    message: Archived
    trial: Trial
    by: str
    remark: str

    def lines(self) -> Iterator[str]:
        """All of it for a person, patient data and all."""
        yield from ("", "raw")
        yield from (f"{INDENT}{line}" for line in segments(self.message.raw, self.trial.codec))
        if self.trial.message:
            yield from ("", f"parsed, with the names of HL7 {self._version}")
            for segment in named(self.trial.message, self._version):
                yield from _tree(segment, 1)
        yield from ("", f"mapped by {self.by}{f': {self.remark}' if self.remark else ''}")
        for outcome in self.trial.outcomes:
            yield from (f"{INDENT}{line}" for line in outcome_lines(outcome, None))
        if self.trial.refusal:
            yield f"{INDENT}refused: {self.trial.refusal}"
        for answer in self.message.answers:
            yield from ("", "answered")
            yield from (f"{INDENT}{line}" for line in segments(answer, ""))

    @property
    def _version(self) -> str:
        return version_for(self.trial.header.version if self.trial.header else "")


def shown(store: Store, settings: Settings, message: Archived) -> Shown:
    """Map a message by the version that handled it, else by the one in force, and say so."""
    name, _, version = message.mapping.partition("@")
    mappings, remark = mappings_of(store, settings, version), ""
    if mappings is None:
        remark = f"version {version} is not kept any more, this is the one in force"
        mappings = mappings_of(store, settings, "")
    if mappings is None:
        return Shown(message, Trial(), "nothing", "no mappings are in force")
    at = datetime.fromtimestamp(message.received, UTC)
    trial = try_message(
        mappings.bundle, message.raw, received=at, site_zone=settings.timezone, port=message.port
    )
    if not version:
        remark = "no mapping handled it, this is the one in force"
    return Shown(message, trial, mappings.named(trial.mapping or name or "none"), remark)


def segments(raw: bytes, codec: str) -> Iterator[str]:
    """A segment a line, with every control character but the CR that ends it visible."""
    text = raw.decode(codec or "utf-8", "backslashreplace")
    lines = text.split("\r")
    for line in lines[:-1] if lines[-1] == "" else lines:
        yield "".join(map(_visible, line))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return f"<{ord(character):02X}>"


def _tree(node: Named, depth: int) -> Iterator[str]:
    text = f"  {node.text}" if node.text else ""
    name = f"  ({node.name})" if node.name else ""
    yield f"{INDENT * depth}{node.path}{name}{text}"
    for part in node.parts:
        yield from _tree(part, depth + 1)


def plain(whole: Shown) -> dict[str, Any]:
    """The same for a program."""
    parsed = whole.trial.message
    return {
        "raw": whole.message.raw.decode(whole.trial.codec or "utf-8", "backslashreplace"),
        "codec": whole.trial.codec,
        "parsed": [_node(each) for each in named(parsed, whole._version)] if parsed else [],
        "mapped": {
            "by": whole.by,
            "remark": whole.remark,
            "refusal": str(whole.trial.refusal) if whole.trial.refusal else None,
            "outcomes": [plain_outcome(each) for each in whole.trial.outcomes],
        },
        "answers": [answer.decode("utf-8", "backslashreplace") for answer in whole.message.answers],
    }


def _node(node: Named) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": node.path, "name": node.name}
    return facts | ({"parts": list(map(_node, node.parts))} if node.parts else {"text": node.text})
