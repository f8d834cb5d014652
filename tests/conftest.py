"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# the machine may be busy with something else: a slow example is no failure
settings.register_profile("vqtools", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vqtools")
