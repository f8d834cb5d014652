"""Suggest the settings of a VQGAN's training, by the number of pictures in a folder and the machine.

Knows settings and files; no networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.training.image_dataset import find_pictures, split_held_out
from vqtools.training.settings import TrainVQGANSettings

ARCHITECTURE_FIELDS = ("network", "codebook_size", "metric", "quantizer")  # fixed by the weights of a trained network


def suggest_vqgan_settings(
    given: dict[str, Any], machine: Machine | None = None
) -> tuple[TrainVQGANSettings, list[str]]:
    """Choose every field that is not given, by the pictures of the folder; returns the settings and the reasons."""
    given = dict(given)
    requested = TrainVQGANSettings.parse(given)
    machine = machine or choose_machine()
    sources = find_pictures(Path(requested.folder))
    count, gpu = len(split_held_out(len(sources), requested.seed)[0]), machine.device.type != "cpu"
    if fixed := [name for name in ARCHITECTURE_FIELDS if name in given]:
        if given.setdefault("from_", "none") not in ("", "none"):
            raise UserError(
                f"{', '.join(fixed)}: a network that continues from {requested.from_} keeps its own; omit it, or add "
                "--from none for a new network"
            )
        requested = TrainVQGANSettings.parse(given)
    fresh = requested.from_ in ("", "none")
    batch = min(32 if gpu else 16, max(1, count))
    epochs = 200 if count < 1000 else 100 if count < 5000 else 20
    max_steps = 60_000 if gpu else 3_000 if not fresh else 6_000
    steps = requested.steps if "steps" in given else max(500, min(max_steps, epochs * count // batch))
    chosen: dict[str, Any] = {"steps": steps, "batch_size": batch, "size": 256 if gpu else 96}
    why = [f"{count} pictures to train on, {len(sources) - count} held out for measurements"]
    if fresh:
        chosen |= {"network": "medium" if gpu else "small"}
        chosen |= {"codebook_size": 256 if count < 200 else 512 if count < 1000 else 1024, "learning_rate": 6e-4}
        merged = chosen | given
        why.append(f"a new {merged['network']} network with {merged['codebook_size']} codes")
    else:
        chosen |= {"learning_rate": 2e-4, "warmup": 100}
        why.append(f"continuing from {requested.from_}: its codebook is kept and adapts to the pictures")
    chosen |= {"disc_start": steps // 2, "disc_ramp": max(1, steps // 10), "disc_weight": 0.1}
    if count < 2000:
        chosen |= {"diff_augment": True, "lecam_weight": 0.1}
        why.append("few pictures: the discriminator is regularised by DiffAugment and LeCam")
    chosen = {k: v for k, v in chosen.items() if k not in given}
    why.append(f"{steps} steps of {requested.batch_size if 'batch_size' in given else batch} pictures")
    return TrainVQGANSettings.parse({**requested.model_dump(), **chosen}).quick(), why
