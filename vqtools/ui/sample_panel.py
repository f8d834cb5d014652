"""The panel of notebook 03: a size, and the picture that a transformer samples for it.

Knows which settings and job belong together; nothing about how codes are sampled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from vqtools.sampling.settings import SampleSettings
from vqtools.ui.panel import PicturePanel

if TYPE_CHECKING:
    from vqtools.pipelines.sample import SampleJob


class SamplePanel(PicturePanel):
    """A size, and the picture that a transformer samples for it, code by code, through a sliding window."""

    verb = "Draw"
    hint = "Choose a size and press Draw: the window moves over the grid, and the picture appears behind it."
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {
        "vqgan": ("starter",),
        "clip": ("starter",),
        "transformer": ("starter", "starter-large"),
    }

    def __init__(self, settings: SampleSettings | None = None, **options: Any) -> None:
        super().__init__(settings or SampleSettings(), **options)
        self._attach()

    def _create_job(self, settings: SampleSettings) -> SampleJob:
        from vqtools.pipelines.sample import create_sample_job

        return create_sample_job(settings)
