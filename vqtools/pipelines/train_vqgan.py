"""Train a VQGAN on a folder of pictures: the command `train-vqgan` and notebook 01.

Knows folders and networks by name; nothing about how a training step works.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vqtools.core.device import Machine
from vqtools.core.errors import UserError, shorten
from vqtools.media.image import to_picture
from vqtools.media.png_record import save_png
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.pipelines.vqgan_figures import draw_codebook
from vqtools.training import metrics
from vqtools.training.image_dataset import ImageBatches, ImageDataset, centre_crops, open_dataset, split_held_out
from vqtools.training.metrics import load_lpips, lpips_weights_path
from vqtools.training.run_folder import RunFolder
from vqtools.training.settings import TrainVQGANSettings
from vqtools.training.trainer import Trainer, begin_run
from vqtools.training.vqgan_stage import VQGANStage
from vqtools.weights.load import load_vqgan
from vqtools.weights.model_file import read_perceptual, save_model
from vqtools.weights.registry import find_record

PerceptualDistance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of images (b, 3, H, W) in [-1, 1] -> scalar."""

# architectures of new networks; "large" is that of the public ImageNet model
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
    """The distance that both training and measurements use, and its name for the log.

    choice: "lpips", "lite0" or "auto". UserError if VGG16 is needed and cannot be downloaded.
    """
    _link_vgg()
    if choice == "lpips" or (choice == "auto" and lpips_weights_path().is_file()):
        try:
            return load_lpips(), "LPIPS with VGG16"
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"VGG16 could not be downloaded ({shorten(str(error))}); choose --perceptual lite0"
            ) from None
    return read_perceptual(find_record("perceptual", "lite0").path), "EfficientNet-Lite0, included in vqtools"


def _link_vgg() -> None:
    """Link the VGG16 downloaded by `weights fetch vgg16-imagenet` to where torch looks for it."""
    fetched, link = find_record("perceptual", "vgg16-imagenet").path, lpips_weights_path()
    if fetched.is_file() and not link.exists():
        with contextlib.suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(fetched)


class VQGANTrainer(Trainer[VQGANStage]):
    """A VQGAN's training with its run folder, as a job: trains, measures, logs, saves.

    Measured and exported are the averaged weights.

    held_out: (n, 3, H, W) in [-1, 1] images to measure on; n may be 0.
    """

    key = "stage1"

    def __init__(
        self,
        settings: TrainVQGANSettings,
        stage: VQGANStage,
        run: RunFolder,
        pictures: ImageDataset,
        held_out: Tensor,
        distance: PerceptualDistance,
    ) -> None:
        super().__init__(settings, stage, run)
        self.settings, self.pictures = settings, pictures
        self.held_out, self.distance = held_out, distance

    def measure(self) -> dict[str, float]:
        """Measure the averaged weights on the held-out pictures; write reconstructions and the best weights so far."""
        measures = metrics.measure(self.stage.ema, self.held_out, self.distance) if len(self.held_out) else {}
        self.measured = {f"held-out {name}": value for name, value in measures.items()}
        record = {"training": self.settings.name, "step": self.position}
        for name, picture in (
            (f"reconstructions-{self.position:08d}", self.preview()),
            ("codebook", self.draw_codebook()),
        ):
            save_png(self.run.folder / f"{name}.png", picture, record, overwrite=True)
        if measures.get("perceptual", -math.inf) < self.best:
            self.best = measures.get("perceptual", math.inf)
            self.export(self.run.folder / "best.safetensors")
        return self.measured

    def export(self, path: Path) -> Path:
        """Write the averaged weights to a model file."""
        network = self.stage.ema
        tensors = {
            k: v for k, v in network.state_dict().items() if k.split(".")[-1] not in ("cluster_size", "embed_sum")
        }
        about = {"made by": "vqtools train-vqgan", "step": self.position, "measured": self.measured}
        about |= {"from": self.settings.from_, "pictures": len(self.pictures)}
        save_model(path, "vqgan", replace(network.config, ema_decay=None).to_dict(), tensors, **about)
        return path

    def preview(self) -> Image.Image:
        """Held-out pictures above their reconstructions; the codebook if there are none."""
        if not len(self.held_out):
            return self.draw_codebook()
        shown = self.held_out[:8].to(self.stage.device)
        with torch.no_grad():
            reconstruction = self.stage.ema(shown)[0].clamp(-1, 1)
        rows = [torch.cat(list(images), 2) for images in (shown.cpu(), reconstruction.float().cpu())]
        return to_picture(torch.cat(rows, 1))

    def describe(self) -> str:
        """The training in one line for the user."""
        s, network = self.settings, self.stage.vqgan.config
        return f"f {network.f}, {network.codebook_size} codes, {s.size} px, {s.steps} steps of {s.batch_size} pictures"

    def draw_codebook(self) -> Image.Image:
        """The averaged weights' codebook as a picture, a tile per code."""
        return draw_codebook(self.stage.ema)


def train_vqgan(
    settings: TrainVQGANSettings, *, folder: str | Path = ".", resume: bool = False, machine: Machine | None = None
) -> VQGANTrainer:
    """A VQGAN's training as a job, in the run folder ``folder``/NAME.

    resume: continue the run of that name. UserError if there are too few pictures, if a network does not exist, or if
    there is a run of that name already.
    """
    start = begin_run(settings, folder=folder, resume=resume, machine=machine)
    settings, team, machine = start.settings, start.team, start.machine
    pictures = open_dataset(settings.folder, settings.size, settings.smallest_crop, settings.ground)
    train, held_out = split_held_out(len(pictures), settings.seed)
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
    overrides = {} if settings.from_ in ("", "none") else {"kmeans_batches": 0}  # a trained codebook stays
    stage = VQGANStage(
        settings.model_copy(update=overrides), vqgan, discriminator, distance, batches, precision=precision, team=team
    )
    job = VQGANTrainer(settings, stage, start.run, pictures, centre_crops(pictures, held_out, settings.size), distance)
    job.start_or_resume(start, f"perceptual distance: {name}")
    return job


def _build_vqgan(settings: TrainVQGANSettings) -> VQGAN:
    """A new VQGAN, or a trained one with the settings' codebook losses. UserError if size or layers do not fit."""
    min_size = 3 * 2**settings.disc_layers
    if settings.size < min_size:
        raise UserError(f"disc_layers {settings.disc_layers} need a size of at least {min_size}, not {settings.size}")
    ema_decay = 0.99 if settings.codebook == "averages" else None
    beta, legacy = settings.commitment_weight, settings.commitment == "reference"
    if settings.from_ in ("", "none"):
        config = replace(
            NETWORK_PRESETS[settings.network],
            codebook_size=settings.codebook_size,
            quantizer=settings.quantizer,
            beta=beta,
            legacy=legacy,
        )
        if settings.quantizer == "nearest":
            config = replace(config, metric=settings.metric, ema_decay=ema_decay)
        vqgan = VQGAN(config)
    else:
        trained = load_vqgan(settings.from_)
        ema_decay = ema_decay if trained.config.quantizer == "nearest" else None
        vqgan = VQGAN(replace(trained.config, ema_decay=ema_decay, beta=beta, legacy=legacy))
        missing = vqgan.load_state_dict(trained.state_dict(), strict=False).missing_keys
        assert not set(missing) - {"quantize.cluster_size", "quantize.embed_sum"}
        if ema_decay:
            vqgan.quantize.embed_sum.copy_(vqgan.quantize.embedding.weight)
    if settings.size % vqgan.f:
        nearest = max(vqgan.f, round(settings.size / vqgan.f) * vqgan.f)
        raise UserError(f"size {settings.size} is not a multiple of {vqgan.f}; the nearest is {nearest}")
    return vqgan
