"""TODO: what this module is.

Split from vqtools.workshop_transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqtools.core.device import Machine, choose_machine
from vqtools.training.folder_labels import class_names, find_captions
from vqtools.training.image_dataset import PictureSource, find_pictures, split_held_out
from vqtools.training.settings import TrainTransformerSettings


def suggest_transformer_settings(
    given: dict[str, Any], machine: Machine | None = None
) -> tuple[TrainTransformerSettings, list[str]]:
    """Settings with every field that was not given chosen by what the folder holds, and why, in sentences."""
    asked = TrainTransformerSettings.parse(given)
    machine = machine or choose_machine()
    sources = find_pictures(Path(asked.folder))
    count, gpu = len(split_held_out(len(sources), asked.seed)[0]), machine.device.type != "cpu"
    why = [f"{count} pictures to train on, {len(sources) - count} held out to measure by"]
    chosen: dict[str, Any] = {}
    if "condition" not in given:
        chosen["condition"], reason = _suggest_condition(asked, sources)
        why.append(reason)
    said = {**asked.model_dump(), **chosen}
    if said["condition"] in ("class", "codes"):
        chosen["holes"] = False
    elif said["holes"]:
        why.append("holes are learned too, so that pictures can be completed and grown in every direction")
    batch = min(64 if gpu else 32, max(1, count))
    chosen |= {"batch_size": batch, "views": 16 if count < 200 else 8 if count < 2000 else 4}
    if gpu:
        chosen |= {"grid": 16, "layers": 12, "heads": 8, "width": 512}
    elif count < 500:
        chosen |= {"layers": 4, "heads": 4, "width": 192}
    chosen |= {"dropout": 0.2 if count < 500 else 0.1 if count < 5000 else 0.0, "measure_every": 250 if gpu else 100}
    passes = 400 if count < 1000 else 100
    steps = max(400, min(40_000 if gpu else 4_000, passes * count // batch))
    chosen |= {"steps": steps, "warmup": min(200, steps // 10)}
    chosen = {k: v for k, v in chosen.items() if k not in given}
    settings = TrainTransformerSettings.parse({**asked.model_dump(), **chosen}).quick()
    why.append(f"{settings.layers} layers of {settings.width}, a window of {settings.grid}x{settings.grid} codes")
    why.append(
        f"at most {settings.steps} steps of {settings.batch_size} pictures; it ends before it knows them by heart"
    )
    return settings, why


def _suggest_condition(asked: TrainTransformerSettings, sources: Sequence[PictureSource]) -> tuple[str, str]:
    """What the folder has to tell beforehand, and why it was chosen."""
    if asked.others:
        return "codes", f"each picture is drawn by the one of its name in {asked.others}"
    captions = find_captions(Path(asked.folder), sources)
    if sum(map(bool, captions)) > len(captions) // 2:
        return "caption", "the pictures have captions, which are learned with them"
    names = class_names(sources)
    if 2 <= len(names) <= min(200, len(sources) // 4):
        return "class", f"the folders are classes: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
    return "none", "no captions and no folders: pictures are drawn from nothing"
