"""The panel of notebook 02: a folder of pictures, a VQGAN, and the transformer that is trained on its codes.

Knows what is plotted and suggested; nothing about how a transformer is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtools.training.settings import TrainTransformerSettings
from vqtools.ui.training_panel import TrainingPanel

if TYPE_CHECKING:
    from vqtools.pipelines.train_transformer import TransformerTrainer


class TransformerPanel(TrainingPanel[TrainTransformerSettings]):
    """A folder of pictures, a VQGAN, and the transformer that is trained on their codes."""

    plotted_columns = ("bits", "held-out bits", "held-out nll in holes", "gradient")
    about = ("folder", "name", "vqgan")

    def __init__(self, settings: TrainTransformerSettings | None = None, *, where: str | Path = ".") -> None:
        super().__init__(settings or TrainTransformerSettings(), where=where)

    def suggest(self, given: dict[str, Any]) -> tuple[TrainTransformerSettings, list[str]]:
        """Settings that fit the folder, with reasons."""
        from vqtools.pipelines.transformer_advice import suggest_transformer_settings

        return suggest_transformer_settings(given)

    def make(self, settings: TrainTransformerSettings, resume: bool) -> TransformerTrainer:
        """The training as a job."""
        from vqtools.pipelines.train_transformer import train_transformer

        return train_transformer(settings, folder=self.where, resume=resume)

    def ready(self, job: TransformerTrainer) -> str:
        """Where to use the model."""
        early = f" (stopped at step {job.position}, before it overfitted)" if job.stopped_early else ""
        return f"{job.settings.name} is ready{early}: choose it as transformer in 03_sample, with {job.settings.vqgan}"
