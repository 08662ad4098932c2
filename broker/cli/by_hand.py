"""What a person does by hand: who, what, when and why, as it is said and as it is archived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.login import who

if TYPE_CHECKING:
    from broker.store.archive import Archived
    from broker.store.executors import Store

MOST_REASON = 200


@dataclass(frozen=True)
class Deed:
    """The options by which a person says who does it and why, or wants to see what would be."""

    operator: Annotated[str, typer.Option(help="Who does it; default: the login name.")] = ""
    reason: Annotated[str, typer.Option(help="Why: it stays in the archive; no patient data.")] = ""
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show what would be, and be told.")
    ] = False

    @property
    def by(self) -> str:
        """Who does it."""
        return self.operator or who()

    def check(self) -> None:
        """Refuse a deed without a reason, and what does not fit in a line of `broker log`."""
        demand_reason(self.reason, dry_run=self.dry_run)
        for name, text, longest in (
            ("operator", self.operator, 64),
            ("reason", self.reason, MOST_REASON),
        ):
            if len(text) > longest or not text.isprintable():
                fact = f"one line of at most {longest} characters"
                raise typer.BadParameter(fact, param_hint=f"--{name}")


def demand_reason(reason: str, *, dry_run: bool) -> None:
    """Refuse what is done without a reason."""
    if not (reason or dry_run):
        raise typer.BadParameter("say why: it stays in the archive", param_hint="--reason")


def archived(
    verb: str, what: str, reason: str, *, by: str = "", orders: Sequence[str] = ()
) -> Archived:
    """An entry of the archive for what no message asked for."""
    from broker.store.archive import BY_HAND, Archived

    return Archived(
        source=f"broker|{by or who()}",
        control_id="",
        message_type=verb,
        outcome=BY_HAND,
        cause=reason,
        received=datetime.now(UTC).timestamp(),
        orders=tuple(orders),
        mapping="",
        raw=f"{verb} {what}".encode(),
    )


def note(store: Store, verb: str, what: str, reason: str, orders: Sequence[str] = ()) -> None:
    """Keep a decision about what is on its way. Raises StoreUnavailable."""
    from broker.store.commit import Commit, commit

    entry = archived(verb, what, reason, orders=orders[:100])
    store.run(commit(Commit(at=datetime.now(UTC), archived=entry, frees=True)))
