"""Train a transformer on the codes of a folder of pictures: the command `train-transformer` and notebook 02.

Knows folders and networks by name; nothing about how a training step works.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.media.image import to_picture
from vqtools.media.png_record import save_png
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines.transformer_data import load_transformer_data
from vqtools.sampling.condition import Condition, mask_codes
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.training.code_dataset import CodeBatches
from vqtools.training.image_dataset import ImageDataset
from vqtools.training.run_folder import RunFolder
from vqtools.training.settings import TrainTransformerSettings
from vqtools.training.trainer import Trainer, begin_run
from vqtools.training.transformer_stage import CodeBatch, TransformerStage, batch_prefix, scale_residual_init
from vqtools.weights.load import load_network
from vqtools.weights.model_file import read_header, read_transformer, save_model

PREVIEW_PICTURES = 4  # pictures in a row of a preview


class TransformerTrainer(Trainer[TransformerStage]):
    """A transformer's training with its run folder, as a job: trains, measures, logs, saves, and samples previews.

    Exported are the averaged weights of the step with the lowest held-out negative log-likelihood.

    held_out: batches to measure on, None if there are no held-out pictures. about: fields of the model file.
    """

    key = "stage2"

    def __init__(
        self,
        settings: TrainTransformerSettings,
        stage: TransformerStage,
        run: RunFolder,
        pictures: ImageDataset,
        vqgan: VQGAN,
        held_out: CodeBatches | None,
        about: dict[str, Any],
    ) -> None:
        super().__init__(settings, stage, run)
        self.settings, self.pictures, self.vqgan, self.held_out = settings, pictures, vqgan, held_out
        self.about = about
        self.num_bad_measurements = 0  # measurements since the best one
        self._preview: tuple[int, Image.Image] | None = None  # with its step

    def measure(self) -> dict[str, float]:
        """Held-out negative log-likelihood in nats and bits per code, without known codes and, if learned, in holes.

        Writes a preview and, if the first is the lowest so far, the averaged weights.
        """
        nats = self.stage.measure(self.held_out.evaluation_batches()) if self.held_out else math.nan
        if self.held_out:
            self.measured = {"held-out nll": nats, "held-out bits": nats / math.log(2)}
            self.measured["held-out perplexity"] = math.exp(min(nats, 50.0))
            if self.settings.holes:
                self.measured["held-out nll in holes"] = self.stage.measure(
                    self.held_out.evaluation_batches(drawn_holes=True)
                )
        record = {"training": self.settings.name, "step": self.position}
        save_png(self.run.folder / f"samples-{self.position:08d}.png", self.preview(), record, overwrite=True)
        better = not self.held_out or nats < self.best
        self.num_bad_measurements = 0 if better else self.num_bad_measurements + 1
        if better:
            self.best = nats if self.held_out else self.best
            self._write_weights(self.run.folder / "best.safetensors")
        return self.measured

    def check_early_stopping(self) -> None:
        """Stop when ``patience`` measurements in a row were no better than the best one."""
        patience = self.settings.patience
        if self.team.any_process(bool(patience) and self.num_bad_measurements >= patience):
            self.stage.total = self.position

    @property
    def stopped_early(self) -> bool:
        """Whether the training ended before the settings' number of steps."""
        return self.total < self.settings.steps

    def _write_weights(self, path: Path) -> None:
        gpt = self.stage.ema
        about = self.about | {"made by": "vqtools train-transformer", "step": self.position, "measured": self.measured}
        save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict(), **about)

    def export(self, path: Path) -> Path:
        """Write the best weights so far to a model file."""
        best = self.run.folder / "best.safetensors"
        if best.is_file():
            gpt, header = read_transformer(best), read_header(best)
            save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict(), **header["about"])
        else:
            self._write_weights(path)
        return path

    def preview(self) -> Image.Image:
        """Samples of the averaged weights, with the same noise each time; below them completed held-out pictures."""
        if self._preview is None or self._preview[0] != self.position:
            self._preview = self.position, self._draw_preview()
        return self._preview[1]

    @torch.no_grad()
    def _draw_preview(self) -> Image.Image:
        gpt, side = self.stage.ema, self.settings.grid
        batch = (
            next(iter(self.held_out.evaluation_batches(most=PREVIEW_PICTURES)))
            if self.held_out
            else self.stage.batch(0)
        )
        batch = batch.apply(lambda tensor: tensor[:PREVIEW_PICTURES]).to(self.stage.device)
        rows = [self._complete(gpt, batch, torch.zeros(side, side, dtype=torch.bool))]
        if self.settings.holes and self.held_out:
            known = torch.zeros(side, side, dtype=torch.bool)
            known[: side // 2] = True
            rows += [self._complete(gpt, batch, known), self._complete(gpt, batch, ~known)]
        if self.held_out:  # the reconstructed pictures
            rows.append(batch.codes.view(-1, side, side))
        images = [self.vqgan.decode(row).float().clamp(-1, 1).cpu() for row in rows]
        return to_picture(torch.cat([torch.cat(list(row), 2) for row in images], 1))

    def _complete(self, gpt: GPT, batch: CodeBatch, known: Tensor) -> Tensor:
        """Grids (b, h, w) with the batch's codes in the known cells (h, w) and sampled codes in the others."""
        config, side = gpt.config, self.settings.grid
        codes = batch.codes.view(-1, side, side)
        if config.spatial:
            assert batch.condition is not None
            own = config.mask_code >= 0
            spatial = mask_codes(gpt, codes, known) if own else batch.condition.view(-1, side, side)
            condition = Condition(None if batch.caption is None else gpt.embed_caption(batch.caption), spatial=spatial)
        else:
            condition = Condition(batch_prefix(gpt, batch))
        noise = cell_noise(self.settings.seed, len(codes), config.num_codes)
        sampler = Sampler(gpt, side, side, condition, noise=noise, given=codes, known=known, top_p=0.92)
        return finish(sampler).codes

    def describe(self) -> str:
        """The training in one line for the user."""
        s = self.settings
        holes = " with holes" if s.holes else ""
        condition = {"none": "no condition"}.get(s.condition, s.condition)
        millions = sum(p.numel() for p in self.stage.gpt.parameters()) / 1e6
        return (
            f"{millions:.1f} million weights, {condition}{holes}, {s.grid}x{s.grid} codes of {s.vqgan}, {s.steps} steps"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to continue from here."""
        return super().state_dict() | {"worse": self.num_bad_measurements, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        super().load_state_dict(state)
        self.num_bad_measurements, self.stage.total = state["worse"], state["total"]


def train_transformer(
    settings: TrainTransformerSettings,
    *,
    folder: str | Path = ".",
    resume: bool = False,
    machine: Machine | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> TransformerTrainer:
    """A transformer's training as a job, in the run folder ``folder``/NAME.

    resume: continue the run of that name. say: called with lines of progress while pictures are encoded. UserError if
    the pictures lack what the settings need, if a network does not exist, or if there is a run of that name already.
    """
    start = begin_run(settings, folder=folder, resume=resume, machine=machine)
    s, team, machine = start.settings, start.team, start.machine
    _check_settings(s)
    loaded = load_network("vqgan", s.vqgan)
    vqgan = loaded.network.to(machine.device)
    data = load_transformer_data(s, vqgan, loaded.sha256, machine.device, say)
    torch.manual_seed(s.seed)
    gpt = GPT(data.config)
    scale_residual_init(gpt)
    gpt = gpt.to(machine.device)
    precision = None if machine.precision == "fp32" else machine.dtype
    stage = TransformerStage(s, gpt, data.train, precision=precision, team=team)
    about = {"vqgan": loaded.sha256, "pictures": len(data.pictures), "condition": s.condition}
    if s.condition == "caption":
        about["clip"] = load_network("clip", s.clip).sha256
    job = TransformerTrainer(s, stage, start.run, data.pictures, vqgan, data.held_out, about)
    job.start_or_resume(start, f"vqgan: {s.vqgan}")
    return job


def _check_settings(s: TrainTransformerSettings) -> None:
    """UserError if the settings contradict each other."""
    if s.width % s.heads:
        below = max(1, s.width // s.heads) * s.heads
        raise UserError(f"width {s.width} is not a multiple of {s.heads} heads; the nearest below is {below}")
    if s.rotary and s.width // s.heads % 4:
        raise UserError(f"rotary positions need a width per head that is a multiple of 4, not {s.width // s.heads}")
    if s.holes and s.condition in ("class", "codes"):
        raise UserError(
            f"holes can be learned with captions or without a condition, not with {s.condition}; add --no-holes"
        )
    if s.others and s.condition != "codes":
        raise UserError(f"others {s.others!r} is used with --condition codes only; omit it, or set condition codes")
    if s.condition == "codes" and not s.others:
        raise UserError("condition codes needs --others, a second folder with a picture of the same name for each")
    if s.optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        raise UserError(f"optimiser muon needs torch 2.9, this is {torch.__version__.split('+')[0]}; choose adamw")
