"""TODO: what this module is.

Split from vqtools.ui.training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtools.training.settings import TrainTransformerSettings
from vqtools.ui.training_panel import TrainingPanel

if TYPE_CHECKING:
    from vqtools.pipelines.train_transformer import TransformerTrainer


class TransformerPanel(TrainingPanel[TrainTransformerSettings]):
    """The panel of notebook 02: a folder of pictures, a VQGAN, and the transformer that learns its codes."""

    plotted_columns = ("bits", "held-out bits", "held-out nll in holes", "gradient")
    about = ("folder", "name", "vqgan")

    def __init__(self, settings: TrainTransformerSettings | None = None, *, where: str | Path = ".") -> None:
        super().__init__(settings or TrainTransformerSettings(), where=where)

    def suggest(self, given: dict[str, Any]) -> tuple[TrainTransformerSettings, list[str]]:
        from vqtools.pipelines.transformer_advice import suggest_transformer_settings

        return suggest_transformer_settings(given)

    def make(self, settings: TrainTransformerSettings, resume: bool) -> TransformerTrainer:
        from vqtools.pipelines.train_transformer import train_transformer

        return train_transformer(settings, folder=self.where, resume=resume)

    def ready(self, job: TransformerTrainer) -> str:
        early = (
            f" (it stopped at step {job.position}, before it knew the pictures by heart)" if job.stopped_early else ""
        )
        return f"{job.settings.name} is ready{early}: choose it as transformer in 03_sample, with {job.settings.vqgan}"
