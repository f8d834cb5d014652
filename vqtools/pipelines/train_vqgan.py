"""Puts pictures, networks and trainings together: what `train-vqgan` and notebook 01 stand on.

Knows folders, models by name, and what suits how many pictures; nothing about how a step is made.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageColor
from torch import Tensor

from vqtools.core.device import Machine
from vqtools.core.errors import UserError, shorten
from vqtools.media.image import to_picture
from vqtools.media.png_record import save_png
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.pipelines.vqgan_figures import draw_codebook
from vqtools.training import metrics
from vqtools.training.image_dataset import ImageBatches, ImageDataset, centre_crops, find_pictures, split_held_out
from vqtools.training.metrics import load_lpips, lpips_weights_path
from vqtools.training.run_folder import RunFolder
from vqtools.training.settings import TrainVQGANSettings
from vqtools.training.trainer import Trainer, begin_run
from vqtools.training.vqgan_stage import VQGANStage
from vqtools.weights.load import load_vqgan
from vqtools.weights.model_file import read_perceptual, save_model
from vqtools.weights.registry import find_record

PerceptualDistance = Callable[[Tensor, Tensor], Tensor]

# networks to train from nothing; "large" is the public ImageNet model's shape
NETWORK_PRESETS = {
    "small": VQGANConfig(
        channels=32, channel_mult=(1, 2, 4), res_blocks=1, attn_resolutions=(), resolution=96, z_channels=128,
        embed_dim=8, patch=2, mid_attention=False, norm_groups=16,
    ),
    "medium": VQGANConfig(
        channels=64, channel_mult=(1, 2, 2, 4), attn_resolutions=(), resolution=128, z_channels=256, embed_dim=8,
        patch=2, norm_groups=32,
    ),
    "large": VQGANConfig(),
}  # fmt: skip


def load_perceptual_distance(choice: str) -> tuple[PerceptualDistance, str]:
    """The distance that training and measuring share, and its name for the log."""
    _link_vgg()
    if choice == "lpips" or (choice == "auto" and lpips_weights_path().is_file()):
        try:
            return load_lpips(), "LPIPS with VGG16"
        except (OSError, RuntimeError) as error:
            raise UserError(f"VGG16 could not be fetched ({shorten(str(error))}); choose --perceptual lite0") from None
    return read_perceptual(find_record("perceptual", "lite0").place), "EfficientNet-Lite0, which ships"


def _link_vgg() -> None:
    """Let torch find the VGG16 that `weights fetch vgg16-imagenet` brought, where it looks for its own."""
    fetched, wanted = find_record("perceptual", "vgg16-imagenet").place, lpips_weights_path()
    if fetched.is_file() and not wanted.exists():
        with contextlib.suppress(OSError):
            wanted.parent.mkdir(parents=True, exist_ok=True)
            wanted.symlink_to(fetched)


class VQGANTrainer(Trainer[VQGANStage]):
    """A VQGAN's training with its folder, as a job: trains, measures, logs, saves.

    The weights that are measured and kept are the averaged ones.
    """

    key = "stage1"

    def __init__(
        self,
        settings: TrainVQGANSettings,
        stage1: VQGANStage,
        run: RunFolder,
        pictures: ImageDataset,
        held: Tensor,
        distance: PerceptualDistance,
    ) -> None:
        super().__init__(settings, stage1, run)
        self.settings, self.stage1, self.pictures = settings, stage1, pictures
        self.held, self.distance = held, distance

    def measure(self) -> dict[str, float]:
        """Measure the averaged weights on the held-out pictures; write what they make of them, and the best so far."""
        found = metrics.measure(self.stage1.averaged, self.held, self.distance) if len(self.held) else {}
        self.measured = {f"held-out {name}": value for name, value in found.items()}
        record = {"training": self.settings.name, "step": self.position}
        for name, picture in ((f"reconstructions-{self.position:08d}", self.preview()), ("codebook", self.atlas())):
            save_png(self.run.folder / f"{name}.png", picture, record, overwrite=True)
        if found.get("perceptual", -math.inf) < self.best:
            self.best = found.get("perceptual", math.inf)
            self.export(self.run.folder / "best.safetensors")
        return self.measured

    def export(self, path: Path) -> Path:
        """Write the averaged weights as a model."""
        network = self.stage1.averaged
        tensors = {
            k: v for k, v in network.state_dict().items() if k.split(".")[-1] not in ("cluster_size", "embed_sum")
        }
        about = {"made by": "vqtools train-vqgan", "step": self.position, "measured": self.measured}
        about |= {"from": self.settings.from_, "pictures": len(self.pictures)}
        save_model(path, "vqgan", replace(network.config, ema_decay=None).to_dict(), tensors, **about)
        return path

    def preview(self) -> Image.Image:
        """Held-out pictures, and below each what the VQGAN makes of it."""
        if not len(self.held):
            return self.atlas()
        shown = self.held[:8].to(self.stage1.device)
        with torch.no_grad():
            made = self.stage1.averaged(shown)[0].clamp(-1, 1)
        rows = [torch.cat(list(images), 2) for images in (shown.cpu(), made.float().cpu())]
        return to_picture(torch.cat(rows, 1))

    def describe(self) -> str:
        """One line for people."""
        s, network = self.settings, self.stage1.vqgan.config
        return f"f {network.f}, {network.codebook_size} codes, {s.size} px, {s.steps} steps of {s.batch_size} pictures"

    def atlas(self) -> Image.Image:
        return draw_codebook(self.stage1.averaged)


def train_vqgan(
    settings: TrainVQGANSettings, *, folder: str | Path = ".", resume: bool = False, machine: Machine | None = None
) -> VQGANTrainer:
    """A training as a job, in ``folder``/NAME; with ``resume`` where the run of that name was.

    UserError where there are too few pictures, no such model, or a run of that name already.
    """
    begun = begin_run(settings, folder=folder, resume=resume, machine=machine)
    settings, team, machine = begun.settings, begun.team, begun.machine
    try:
        ground = ImageColor.getrgb(settings.ground)[:3]
    except ValueError:
        raise UserError(f"ground {shorten(settings.ground)} is no colour; use a name or #rrggbb") from None
    pictures = ImageDataset(
        find_pictures(Path(settings.folder)), math.ceil(settings.size / settings.smallest_crop), ground
    )
    train, held = split_held_out(len(pictures), settings.seed)
    batches = ImageBatches(
        pictures, train, settings.batch_size, settings.size, seed=settings.seed, smallest=settings.smallest_crop,
        flip=settings.flip, rank=team.rank, size=team.size,
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    vqgan = _build_vqgan(settings).to(machine.device)
    width = 32 if vqgan.config.channels < 64 else 64
    discriminator = PatchDiscriminator(width, layers=settings.disc_layers, norm="group")
    distance, name = load_perceptual_distance(settings.perceptual)
    if isinstance(distance, torch.nn.Module):
        distance.to(machine.device)
    precision = None if machine.precision == "fp32" else machine.dtype
    kept = {} if settings.from_ in ("", "none") else {"kmeans_batches": 0}  # a trained codebook is not started again
    stage1 = VQGANStage(
        settings.model_copy(update=kept), vqgan, discriminator, distance, batches, precision=precision, team=team
    )
    job = VQGANTrainer(settings, stage1, begun.run, pictures, centre_crops(pictures, held, settings.size), distance)
    job.begin(begun, f"perceptual distance: {name}")
    return job


def _build_vqgan(settings: TrainVQGANSettings) -> VQGAN:
    if settings.size < 3 * 2**settings.disc_layers:
        least = 3 * 2**settings.disc_layers
        raise UserError(f"disc_layers {settings.disc_layers} need a size of at least {least}, not {settings.size}")
    averages = 0.99 if settings.codebook == "averages" else None
    beta, legacy = settings.commitment_weight, settings.commitment == "reference"
    if settings.from_ in ("", "none"):
        config = replace(
            NETWORK_PRESETS[settings.network], codebook_size=settings.codebook_size, quantizer=settings.quantizer
        )
        config = replace(config, beta=beta, legacy=legacy)
        if settings.quantizer == "nearest":
            config = replace(config, metric=settings.metric, ema_decay=averages)
        vqgan = VQGAN(config)
    else:
        known = load_vqgan(settings.from_)
        averages = averages if known.config.quantizer == "nearest" else None
        vqgan = VQGAN(replace(known.config, ema_decay=averages, beta=beta, legacy=legacy))
        missing = vqgan.load_state_dict(known.state_dict(), strict=False).missing_keys
        assert not set(missing) - {"quantize.cluster_size", "quantize.embed_sum"}
        if averages:
            vqgan.quantize.embed_sum.copy_(vqgan.quantize.embedding.weight)
    if settings.size % vqgan.f:
        nearest = max(vqgan.f, round(settings.size / vqgan.f) * vqgan.f)
        raise UserError(f"size {settings.size} is not a multiple of {vqgan.f}; the nearest is {nearest}")
    return vqgan
