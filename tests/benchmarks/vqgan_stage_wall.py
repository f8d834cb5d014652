"""One side of test_equal_wall_time: train for some seconds on one core, then print steps and held-out measures.

python tests/benchmarks/vqgan_stage_wall.py published|vqtools DATA SECONDS
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from test_vqgan_stage import BATCH, SIDE, Published, networks

from vqtools.core.device import choose_machine
from vqtools.models.vqgan import VQGAN
from vqtools.training import metrics
from vqtools.training.image_dataset import ImageBatches, ImageDataset, centre_crops, find_pictures
from vqtools.training.settings import TrainVQGANSettings
from vqtools.training.vqgan_stage import VQGANStage


def pictures(data: Path, pattern: str) -> ImageDataset:
    return ImageDataset([source for path in sorted(data.glob(pattern)) for source in find_pictures(path)], 2 * SIDE)


def published(batches: ImageBatches, seconds: float) -> tuple[int, VQGAN]:
    """The plain codebook, and a discriminator that joins at step 10,000, as the custom recipe has it."""
    vqgan, discriminator, perceptual = networks()
    job = Published(VQGAN(replace(vqgan.config, metric="euclidean")), discriminator, perceptual, start=10_000)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        job.step(batches(job.position))
    return job.position, job.vqgan


def ours(batches: ImageBatches, seconds: float) -> tuple[int, VQGAN]:
    vqgan, discriminator, perceptual = networks()
    settings = TrainVQGANSettings(steps=10**6, disc_start=10**6, warmup=100)
    machine = choose_machine()
    job = VQGANStage(
        settings, VQGAN(replace(vqgan.config, metric="cosine", ema_decay=0.99)), discriminator, perceptual, batches,
        precision=None if machine.precision == "fp32" else machine.dtype,
    )  # fmt: skip
    began = time.monotonic()
    while (gone := time.monotonic() - began) < seconds:
        # the schedule that a run of this length has: its rate falls over the last quarter
        job.total = max(job.position + 1, round(job.position * seconds / max(gone, 1.0)))
        job.step()
    return job.position, job.ema


if __name__ == "__main__":
    side, data, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(1)
    train, held = pictures(data, "train-*"), pictures(data, "val-*")
    held_out = centre_crops(held, range(len(held)), SIDE)
    batches = ImageBatches(train, range(len(train)), BATCH, SIDE)
    steps, vqgan = (published if side == "published" else ours)(batches, seconds)
    print(json.dumps({"steps": steps, **metrics.measure(vqgan, held_out, batch_size=32)}))
