"""Puts pictures, a VQGAN and a transformer's training together: what `train-transformer` and notebook 02 stand on.

Knows folders, models by name, and what suits how many pictures; nothing about how a step is made.
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
from vqtools.weights.load import load_vqgan, resolve_path
from vqtools.weights.model_file import file_sha256, read_header, read_transformer, save_model

PREVIEW_PICTURES = 4  # pictures that are drawn to be looked at


class TransformerTrainer(Trainer[TransformerStage]):
    """A transformer's training with its folder, as a job: trains, measures, logs, saves, and draws to be looked at.

    The weights that are kept are the averaged ones as they were when the held-out pictures surprised them least.
    """

    key = "stage2"

    def __init__(
        self,
        settings: TrainTransformerSettings,
        stage2: TransformerStage,
        run: RunFolder,
        pictures: ImageDataset,
        vqgan: VQGAN,
        held: CodeBatches | None,
        about: dict[str, Any],
    ) -> None:
        super().__init__(settings, stage2, run)
        self.settings, self.stage2, self.pictures, self.vqgan, self.about = settings, stage2, pictures, vqgan, about
        self.held = held
        self.num_bad_measurements = 0  # measurements since the best one
        self._shown: tuple[int, Image.Image] | None = None

    def measure(self) -> dict[str, float]:
        """Held-out surprise in nats and bits a code, from nothing and, where holes are learned, in holes."""
        nats = self.stage2.measure(self.held.all()) if self.held else math.nan
        if self.held:
            self.measured = {"held-out nll": nats, "held-out bits": nats / math.log(2)}
            self.measured["held-out perplexity"] = math.exp(min(nats, 50.0))
            if self.settings.holes:
                self.measured["held-out nll in holes"] = self.stage2.measure(self.held.all(drawn_holes=True))
        record = {"training": self.settings.name, "step": self.position}
        save_png(self.run.folder / f"samples-{self.position:08d}.png", self.preview(), record, overwrite=True)
        better = not self.held or nats < self.best
        self.num_bad_measurements = 0 if better else self.num_bad_measurements + 1
        if better:
            self.best = nats if self.held else self.best
            self._write(self.run.folder / "best.safetensors")
        return self.measured

    def judge(self) -> None:
        patience = self.settings.patience
        if self.team.any_process(bool(patience) and self.num_bad_measurements >= patience):
            self.stage2.total = self.position

    @property
    def stopped_early(self) -> bool:
        return self.total < self.settings.steps

    def _write(self, path: Path) -> None:
        gpt = self.stage2.averaged
        about = self.about | {"made by": "vqtools train-transformer", "step": self.position, "measured": self.measured}
        save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict(), **about)

    def export(self, path: Path) -> Path:
        """Write the best weights so far as a model."""
        best = self.run.folder / "best.safetensors"
        if best.is_file():
            gpt, header = read_transformer(best), read_header(best)
            save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict(), **header["about"])
        else:
            self._write(path)
        return path

    def preview(self) -> Image.Image:
        """What the averaged weights draw, always with the same noise; below it the held-out pictures they complete."""
        if self._shown is None or self._shown[0] != self.position:
            self._shown = self.position, self._draw()
        return self._shown[1]

    @torch.no_grad()
    def _draw(self) -> Image.Image:
        gpt, side = self.stage2.averaged, self.settings.grid
        batch = next(iter(self.held.all(most=PREVIEW_PICTURES))) if self.held else self.stage2.batch(0)
        batch = batch.apply(lambda tensor: tensor[:PREVIEW_PICTURES]).to(self.stage2.device)
        rows = [self._completed(gpt, batch, torch.zeros(side, side, dtype=torch.bool))]
        if self.settings.holes and self.held:
            known = torch.zeros(side, side, dtype=torch.bool)
            known[: side // 2] = True
            rows += [self._completed(gpt, batch, known), self._completed(gpt, batch, ~known)]
        if self.held:  # the pictures as their codes show them
            rows.append(batch.codes.view(-1, side, side))
        images = [self.vqgan.decode(row).float().clamp(-1, 1).cpu() for row in rows]
        return to_picture(torch.cat([torch.cat(list(row), 2) for row in images], 1))

    def _completed(self, gpt: GPT, batch: CodeBatch, known: Tensor) -> Tensor:
        """Grids (b, h, w) of which the known cells are the batch's and the others are drawn."""
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
        """One line for people."""
        s = self.settings
        holes = " with holes" if s.holes else ""
        condition = {"none": "no condition"}.get(s.condition, s.condition)
        millions = sum(p.numel() for p in self.stage2.gpt.parameters()) / 1e6
        return (
            f"{millions:.1f} million weights, {condition}{holes}, {s.grid}x{s.grid} codes of {s.vqgan}, {s.steps} steps"
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"worse": self.num_bad_measurements, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_bad_measurements, self.stage2.total = state["worse"], state["total"]


def train_transformer(
    settings: TrainTransformerSettings,
    *,
    folder: str | Path = ".",
    resume: bool = False,
    machine: Machine | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TransformerTrainer:
    """A training as a job, in ``folder``/NAME; with ``resume`` where the run of that name was.

    UserError where the folder lacks what the settings ask of it, or there is no such model, or a run of that name.
    """
    begun = begin_run(settings, folder=folder, resume=resume, machine=machine)
    s, team, machine = begun.settings, begun.team, begun.machine
    _check_settings(s)
    place = resolve_path("vqgan", s.vqgan)
    vqgan, sha256 = load_vqgan(s.vqgan).to(machine.device), file_sha256(place)
    lesson = load_transformer_data(s, vqgan, sha256, machine.device, say)
    torch.manual_seed(s.seed)
    gpt = GPT(lesson.config)
    scale_residual_init(gpt)
    gpt = gpt.to(machine.device)
    precision = None if machine.precision == "fp32" else machine.dtype
    stage2 = TransformerStage(s, gpt, lesson.train, precision=precision, team=team)
    about = {"vqgan": sha256, "pictures": len(lesson.pictures), "condition": s.condition}
    if s.condition == "caption":
        about["clip"] = file_sha256(resolve_path("clip", s.clip))
    job = TransformerTrainer(s, stage2, begun.run, lesson.pictures, vqgan, lesson.held, about)
    job.begin(begun, f"vqgan: {s.vqgan}")
    return job


def _check_settings(s: TrainTransformerSettings) -> None:
    """UserError where the settings contradict each other."""
    if s.width % s.heads:
        raise UserError(
            f"width {s.width} is not a multiple of {s.heads} heads; take {max(1, s.width // s.heads) * s.heads}"
        )
    if s.rotary and s.width // s.heads % 4:
        raise UserError(f"rotary positions need heads of a multiple of 4 numbers, not {s.width // s.heads}")
    if s.holes and s.condition in ("class", "codes"):
        raise UserError(
            f"holes are learned with captions or without a condition, not with {s.condition}; say --no-holes"
        )
    if s.others and s.condition != "codes":
        raise UserError(f"others {s.others!r} are read with --condition codes only")
    if s.condition == "codes" and not s.others:
        raise UserError("condition codes needs --others: a second folder with a picture of the same name for each")
    if s.optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        raise UserError(f"optimiser muon needs torch 2.9; here is {torch.__version__.split('+')[0]}: take adamw")
