"""Puts pictures, networks and trainings together: what `train-vqgan` and notebook 01 stand on.

Knows folders, models by name, and what suits how many pictures; nothing about how a step is made.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageColor
from torch import Tensor

from vqtools.device import Machine, choose_machine
from vqtools.media import save_png, to_picture
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.networks import load_vqgan
from vqtools.settings import UserError, shorten
from vqtools.training import metrics
from vqtools.training.data import ImageBatches, ImageDataset, centre_crops, find_pictures, split_held_out
from vqtools.training.metrics import load_lpips, lpips_weights_path
from vqtools.training.run import RunFolder
from vqtools.training.settings import TrainVQGANSettings
from vqtools.training.stage1 import VQGANStage
from vqtools.trainings import Trainer, begin_run
from vqtools.weights import files
from vqtools.weights.files import read_perceptual
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
ARCHITECTURE_FIELDS = ("network", "codebook_size", "metric", "quantizer")  # what only a new network can choose


def suggest_vqgan_settings(
    given: dict[str, Any], machine: Machine | None = None
) -> tuple[TrainVQGANSettings, list[str]]:
    """Settings with every field that was not given chosen by what the folder holds, and why, in sentences."""
    given = dict(given)
    asked = TrainVQGANSettings.parse(given)
    machine = machine or choose_machine()
    sources = find_pictures(Path(asked.folder))
    count, gpu = len(split_held_out(len(sources), asked.seed)[0]), machine.device.type != "cpu"
    if shape := [name for name in ARCHITECTURE_FIELDS if name in given]:
        if given.setdefault("from_", "none") not in ("", "none"):
            raise UserError(
                f"{', '.join(shape)}: a network that goes on from {asked.from_} keeps its own; leave it away, or say "
                "--from none for a new one"
            )
        asked = TrainVQGANSettings.parse(given)
    fresh = asked.from_ in ("", "none")
    batch = min(32 if gpu else 16, max(1, count))
    passes = 200 if count < 1000 else 100 if count < 5000 else 20
    most = 60_000 if gpu else 3_000 if not fresh else 6_000
    steps = asked.steps if "steps" in given else max(500, min(most, passes * count // batch))
    chosen: dict[str, Any] = {"steps": steps, "batch_size": batch, "size": 256 if gpu else 96}
    why = [f"{count} pictures to train on, {len(sources) - count} held out to measure by"]
    if fresh:
        chosen |= {"network": "medium" if gpu else "small"}
        chosen |= {"codebook_size": 256 if count < 200 else 512 if count < 1000 else 1024, "learning_rate": 6e-4}
        said = chosen | given
        why.append(f"a new {said['network']} network with {said['codebook_size']} codes")
    else:
        chosen |= {"learning_rate": 2e-4, "warmup": 100}
        why.append(f"going on from {asked.from_}: its codebook is kept and moves with the pictures")
    chosen |= {"disc_start": steps // 2, "disc_ramp": max(1, steps // 10), "disc_weight": 0.1}
    if count < 2000:
        chosen |= {"diff_augment": True, "lecam_weight": 0.1}
        why.append("few pictures: the discriminator sees them changed and is held back (DiffAugment, LeCAM)")
    chosen = {k: v for k, v in chosen.items() if k not in given}
    why.append(f"{steps} steps of {asked.batch_size if 'batch_size' in given else batch} pictures")
    return TrainVQGANSettings.parse({**asked.model_dump(), **chosen}).quick(), why


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
        files.save_model(path, "vqgan", replace(network.config, ema_decay=None).to_dict(), tensors, **about)
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


@torch.no_grad()
def draw_codebook(vqgan: VQGAN, columns: int = 0) -> Image.Image:
    """The codebook as a picture: what the decoder draws for each code alone, a tile of f x f pixels a code."""
    k, f = vqgan.config.codebook_size, vqgan.f
    columns = columns or math.ceil(math.sqrt(k))
    codes = torch.arange(k, device=vqgan.last_layer.device)
    tiles = []
    for part in torch.split(codes, 256):
        # a code among its like, and of what is drawn the middle: the border is no code's own
        image = vqgan.decode(part.view(-1, 1, 1).expand(-1, 3, 3)).clamp(-1, 1)
        tiles.append(image[:, :, f : 2 * f, f : 2 * f].cpu())
    grid = torch.cat([*tiles, torch.ones(-k % columns, 3, f, f)])
    grid = grid.view(-1, columns, 3, f, f).permute(2, 0, 3, 1, 4).reshape(3, -1, columns * f)
    return to_picture(grid)


@torch.no_grad()
def compare_reconstructions(
    names: Sequence[str], folder: str | Path, *, size: int = 96, count: int = 8, seed: int = 0
) -> Image.Image:
    """Held-out pictures of a folder in the top row, then a row for what each VQGAN makes of them."""
    pictures = ImageDataset(find_pictures(Path(folder)), 2 * size)
    held = centre_crops(pictures, split_held_out(len(pictures), seed)[1][:count], size)
    rows = [held, *(load_vqgan(name)(held)[0].clamp(-1, 1) for name in names)]
    return to_picture(torch.cat([torch.cat(list(row), 2) for row in rows], 1))


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
