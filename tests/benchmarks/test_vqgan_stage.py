"""Training of a VQGAN against the published loop, and memory for decoding large pictures.

pytest -m benchmark -s tests/benchmarks/test_vqgan_stage.py
VQTOOLS_DATA=FOLDER VQTOOLS_MINUTES=20 pytest -m benchmark -s tests/benchmarks/test_vqgan_stage.py -k wall
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vqtools.core.device import choose_machine
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines.train_vqgan import NETWORK_PRESETS, load_perceptual_distance
from vqtools.training.settings import VQGANStageSettings
from vqtools.training.vqgan_stage import VQGANStage

pytestmark = pytest.mark.benchmark
SIDE, BATCH = 96, 24


class PublishedTrainer:
    """The published training step: eager, fp32, two forward passes of the generator.

    Esser et al. 2021, section 3.1, and the order of the reference implementation's two optimiser steps.
    """

    def __init__(self, vqgan: VQGAN, discriminator: nn.Module, perceptual: Callable[..., Tensor], start: int) -> None:
        self.vqgan, self.discriminator, self.perceptual, self.start = vqgan, discriminator, perceptual, start
        rate = 4.5e-6 * BATCH
        self.opt_g = torch.optim.Adam(vqgan.parameters(), lr=rate, betas=(0.5, 0.9))
        self.opt_d = torch.optim.Adam(discriminator.parameters(), lr=rate, betas=(0.5, 0.9))
        self.position = 0

    def step(self, images: Tensor) -> None:
        output, _, quantized = self.vqgan(images)
        reconstruction = (output - images).abs().mean() + self.perceptual(output, images)
        adversarial = -self.discriminator(output).mean()
        weight = 0.0
        if self.position >= self.start:
            last = self.vqgan.last_layer
            (rec,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
            (adv,) = torch.autograd.grad(adversarial, last, retain_graph=True)
            weight = 0.8 * float((rec.norm() / (adv.norm() + 1e-4)).clamp(0, 1e4))
        self.opt_g.zero_grad()
        (reconstruction + weight * adversarial + quantized.loss).backward()
        self.opt_g.step()
        output, _, _ = self.vqgan(images)
        if self.position >= self.start:
            real, fake = self.discriminator(images), self.discriminator(output.detach())
            self.opt_d.zero_grad()
            (0.5 * (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean())).backward()
            self.opt_d.step()
        self.position += 1


def create_networks() -> tuple[VQGAN, nn.Module, Callable[..., Tensor]]:
    torch.manual_seed(0)
    vqgan = VQGAN(replace(NETWORK_PRESETS["small"], codebook_size=1024))
    return vqgan, PatchDiscriminator(32, layers=2, norm="group"), load_perceptual_distance("lite0")[0]


def test_throughput_is_at_least_1_5_times_that_of_the_published_loop() -> None:
    """Images per second of both, alternating on the same images, with the discriminator from the start."""
    images = [torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(8)]
    published = PublishedTrainer(*create_networks(), start=0)
    vqgan, discriminator, perceptual = create_networks()
    vqgan = VQGAN(replace(vqgan.config, ema_decay=0.99))
    settings = VQGANStageSettings(steps=10**6, disc_start=0, disc_ramp=1, perceptual_pictures=BATCH)
    machine = choose_machine()
    precision = None if machine.precision == "fp32" else machine.dtype
    ours = VQGANStage(settings, vqgan, discriminator, perceptual, lambda i: images[i % 8], precision=precision)
    seconds = {"published": 0.0, "vqtools": 0.0}
    for turn in range(7):
        for name, step in (("published", lambda i: published.step(images[i % 8])), ("vqtools", lambda i: ours.step())):
            started = time.perf_counter()
            for i in range(3):
                step(i)
            if turn:  # the first warms up
                seconds[name] += time.perf_counter() - started
    rates = {name: 6 * 3 * BATCH / duration for name, duration in seconds.items()}
    ratio = rates["vqtools"] / rates["published"]
    print(
        f"\n{machine.describe()}: " + ", ".join(f"{k} {v:.1f} images/s" for k, v in rates.items()) + f", {ratio:.2f}x"
    )
    assert ratio >= (1.7 if machine.precision == "bf16" else 1.5)


def test_quality_after_equal_wall_time() -> None:
    """Held-out PSNR and codebook usage after the same time from random weights, in parallel with one core each."""
    data, seconds = os.environ["VQTOOLS_DATA"], 60 * float(os.environ.get("VQTOOLS_MINUTES", "20"))
    script = str(Path(__file__).with_name("vqgan_stage_wall.py"))
    sides = {
        name: subprocess.Popen([sys.executable, script, name, data, str(seconds)], stdout=subprocess.PIPE, text=True)
        for name in ("published", "vqtools")
    }
    measured = {name: json.loads(side.communicate()[0].splitlines()[-1]) for name, side in sides.items()}
    for name, numbers in measured.items():
        print(f"\n{name}, {seconds / 60:.0f} minutes: " + ", ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
    assert measured["vqtools"]["psnr"] >= measured["published"]["psnr"] + 1
    assert measured["vqtools"]["usage"] >= 2 * measured["published"]["usage"]


DECODE_PROGRAM = """
import resource, sys, time, torch
from vqtools.models.tiled_decoding import decode_in_strips
from vqtools.models.vqgan import VQGAN, VQGANConfig
torch.manual_seed(0)
vqgan = VQGAN(VQGANConfig()).requires_grad_(False)
side = int(sys.argv[1])
latents = torch.randn(1, 256, side // 16, side // 16)
started = time.perf_counter()
with torch.no_grad():
    image = decode_in_strips(vqgan, latents) if sys.argv[2] == "strips" else vqgan.decode_latents(latents)
assert image.isfinite().all() and image.shape == (1, 3, side, side)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, time.perf_counter() - started)
"""


@pytest.mark.parametrize(("side", "limit"), [(2048, 4.0), (4096, 10.0)])
def test_decoding_large_pictures_needs_little_memory(side: int, limit: float) -> None:
    """Peak memory of the whole process in GB for the architecture of the public f16 model."""
    out = subprocess.run(
        [sys.executable, "-c", DECODE_PROGRAM, str(side), "strips"], check=True, capture_output=True, text=True
    )
    peak, seconds = map(float, out.stdout.split())
    print(f"\n{side}x{side}: {peak:.2f} GB peak, {seconds:.0f} s")
    assert peak < limit


@pytest.mark.parametrize("name", ["f16 shape", "starter"])
def test_decoding_in_strips_agrees_with_the_plain_decoder(name: str) -> None:
    from vqtools.models.tiled_decoding import decode_in_strips
    from vqtools.models.vqgan import VQGANConfig
    from vqtools.weights.load import load_vqgan

    torch.manual_seed(0)
    vqgan = load_vqgan("starter") if name == "starter" else VQGAN(VQGANConfig()).requires_grad_(False)
    codes = torch.randint(vqgan.config.codebook_size, (1, 1024 // vqgan.f, 1024 // vqgan.f))
    latents = vqgan.codes_to_latents(codes) * (1 if name == "starter" else 1024)
    with torch.no_grad():
        difference = (
            decode_in_strips(vqgan, latents).clamp(-1, 1) - vqgan.decode_latents(latents).clamp(-1, 1)
        ).abs() / 2
    rows = difference.amax((0, 1, 3))
    print(
        f"\n{name}, 1024x1024: largest difference {255 * difference.max():.4f} of 255; by row {255 * rows.median():.4f}"
    )
    assert difference.max() < 1 / 255
