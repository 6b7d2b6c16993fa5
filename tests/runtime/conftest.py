"""Settings and small real models for the runtime's tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadlines, since other work may go on; the same examples in every run, kept nowhere.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
