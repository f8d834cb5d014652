"""TODO: what this module is.

Split from vqtools.ui.drafts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CallbackGuard = Callable[[Callable[[], None]], Callable[[Any], None]]
