"""A sample message under the mapping that a new one is to extend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from broker.mapping.assigning import rows_of
from broker.mapping.bundle import Bundle
from broker.mapping.running.leaf import Traced
from broker.mapping.trials.trying import Trial, try_message


@dataclass(frozen=True)
class Sketch:
    """What a mapping begins from: the sample under its base, strictly and with nothing refused.

    `tables` are the rows of the base's tables by name; `port` is where the sample came to, or 0.
    """

    trial: Trial
    read: Trial
    tables: Mapping[str, Mapping[str, str]]
    port: int = 0

    def traced(self, keyword: str) -> Traced | None:
        """How the base fills an attribute, None where the sample gives it no value."""
        found = (each for outcome in self.read.outcomes for each in outcome.traced)
        return next((each for each in found if each.keyword == keyword), None)


def sketched(
    bundle: Bundle, raw: bytes, *, received: datetime, site_zone: ZoneInfo, port: int = 0
) -> Sketch:
    """Try a sample for a mapping that is to be begun from it."""
    trial, read = (
        try_message(bundle, raw, received=received, site_zone=site_zone, port=port, lenient=lenient)
        for lenient in (False, True)
    )
    tables = {
        name: rows_of(bundle, name, [trial.mapping])
        for each in bundle.loaded
        if each.mapping is trial.inbound
        for name in each.file.tables
    }
    return Sketch(trial, read, tables, port)
