"""How the fuzz runs: as long as the profile says, and without a clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

fuzz = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)
