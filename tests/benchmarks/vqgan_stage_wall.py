"""One side of test_quality_after_equal_wall_time: train for a time on one core, print steps and held-out measures.

python tests/benchmarks/vqgan_stage_wall.py published|vqtools DATA SECONDS
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from test_vqgan_stage import BATCH, SIDE, PublishedTrainer, create_networks

from vqtools.core.device import choose_machine
from vqtools.models.vqgan import VQGAN
from vqtools.training import metrics
from vqtools.training.image_dataset import ImageBatches, ImageDataset, centre_crops, find_pictures
from vqtools.training.settings import TrainVQGANSettings
from vqtools.training.vqgan_stage import VQGANStage


def open_pictures(data: Path, pattern: str) -> ImageDataset:
    return ImageDataset([source for path in sorted(data.glob(pattern)) for source in find_pictures(path)], 2 * SIDE)


def train_published(batches: ImageBatches, seconds: float) -> tuple[int, VQGAN]:
    """Train with the published loop: a plain codebook, and the discriminator from step 10,000."""
    vqgan, discriminator, perceptual = create_networks()
    job = PublishedTrainer(VQGAN(replace(vqgan.config, metric="euclidean")), discriminator, perceptual, start=10_000)
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        job.step(batches(job.position))
    return job.position, job.vqgan


def train_vqtools(batches: ImageBatches, seconds: float) -> tuple[int, VQGAN]:
    """Train with VQGANStage; return its steps and EMA weights."""
    vqgan, discriminator, perceptual = create_networks()
    settings = TrainVQGANSettings(steps=10**6, disc_start=10**6, warmup=100)
    machine = choose_machine()
    job = VQGANStage(
        settings, VQGAN(replace(vqgan.config, metric="cosine", ema_decay=0.99)), discriminator, perceptual, batches,
        precision=None if machine.precision == "fp32" else machine.dtype,
    )  # fmt: skip
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        # estimate the total from the steps so far: the learning rate decays over the last quarter of a run
        job.total = max(job.position + 1, round(job.position * seconds / max(elapsed, 1.0)))
        job.step()
    return job.position, job.ema


if __name__ == "__main__":
    side, data, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(1)
    train, held = open_pictures(data, "train-*"), open_pictures(data, "val-*")
    held_out = centre_crops(held, range(len(held)), SIDE)
    batches = ImageBatches(train, range(len(train)), BATCH, SIDE)
    steps, vqgan = (train_published if side == "published" else train_vqtools)(batches, seconds)
    print(json.dumps({"steps": steps, **metrics.measure(vqgan, held_out, batch_size=32)}))
