"""The panel of notebook 01: a folder of pictures, and the VQGAN that is trained on it.

Knows what is plotted and suggested; nothing about how a VQGAN is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vqtools.training.settings import TrainVQGANSettings
from vqtools.ui.training_panel import TrainingPanel

if TYPE_CHECKING:
    from PIL.Image import Image

    from vqtools.pipelines.train_vqgan import VQGANTrainer


class TrainPanel(TrainingPanel[TrainVQGANSettings]):
    """A folder of pictures, and the VQGAN that is trained on it, with its codebook beside the curves."""

    plotted_columns = ("loss", "held-out psnr", "held-out perceptual", "usage", "perplexity", "disc")
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {"from_": ("starter", "none")}

    def __init__(self, settings: TrainVQGANSettings | None = None, *, where: str | Path = ".") -> None:
        super().__init__(settings or TrainVQGANSettings(), where=where)

    def suggest(self, given: dict[str, Any]) -> tuple[TrainVQGANSettings, list[str]]:
        """Settings that fit the folder, with reasons."""
        from vqtools.pipelines.vqgan_advice import suggest_vqgan_settings

        return suggest_vqgan_settings(given)

    def make(self, settings: TrainVQGANSettings, resume: bool) -> VQGANTrainer:
        """The training as a job."""
        from vqtools.pipelines.train_vqgan import train_vqgan

        return train_vqgan(settings, folder=self.where, resume=resume)

    def side_picture(self, job: VQGANTrainer) -> Image:
        """Every code of the codebook, decoded."""
        return job.draw_codebook()

    def ready(self, job: VQGANTrainer) -> str:
        """Where to use the model."""
        return f"{job.settings.name} is ready: choose it as VQGAN in 04_paint"
