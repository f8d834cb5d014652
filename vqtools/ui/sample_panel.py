"""TODO: what this module is.

Split from vqtools.ui.panels.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vqtools.sampling.settings import SampleSettings
from vqtools.ui.panel import PictureJob, PicturePanel


class SamplePanel(PicturePanel):
    """A size, and the picture that a transformer draws for it, code by code, through its window."""

    verb = "Draw"
    hint = "Choose a size and press Draw: the window walks over the grid, and the picture appears behind it."
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {
        "vqgan": ("starter",), "clip": ("starter",), "transformer": ("starter", "starter-large"),
    }  # fmt: skip

    def __init__(self, settings: SampleSettings | None = None, **options: Any) -> None:
        super().__init__(settings or SampleSettings(), **options)
        self._attach()

    def _create_job(self, settings: SampleSettings) -> PictureJob:
        from vqtools.pipelines.sample import create_sample_job

        return create_sample_job(settings)
