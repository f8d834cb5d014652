"""The type of functions that make callbacks safe: `Runner.guard` is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CallbackGuard = Callable[[Callable[[], None]], Callable[[Any], None]]
"""Wraps a function without arguments as a widget callback that shows its exceptions in the panel."""
