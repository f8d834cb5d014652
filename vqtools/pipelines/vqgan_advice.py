"""TODO: what this module is.

Split from vqtools.workshop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.training.image_dataset import find_pictures, split_held_out
from vqtools.training.settings import TrainVQGANSettings

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
