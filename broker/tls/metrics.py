"""How many days certificates have left, as a metric of the door that uses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.tls.credentials import Credentials


class DaysLeft(Collector):
    """`broker_ROLE_certificate_days_left`, by setting and the name of the file, without its path.

    Whenever it is asked the files are looked at, so that a new one is taken although nobody calls.
    """

    def __init__(self, role: str, credentials: Sequence[Credentials]) -> None:
        self._role, self._credentials = role, credentials

    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            f"broker_{self._role}_certificate_days_left",
            "Days until the first certificate of a file ends; negative once it has ended",
            labels=("setting", "file"),
        )
        for each in self._credentials:
            for file, days in each.days_left().items():
                found.add_metric((f"{each.use}.tls", file), days)
        yield found
