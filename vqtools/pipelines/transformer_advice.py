"""Suggest the settings of a transformer's training, by the pictures in a folder and the machine.

Knows settings and files; no networks.
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
    """Choose every field that is not given, by the pictures of the folder; returns the settings and the reasons."""
    requested = TrainTransformerSettings.parse(given)
    machine = machine or choose_machine()
    sources = find_pictures(Path(requested.folder))
    count, gpu = len(split_held_out(len(sources), requested.seed)[0]), machine.device.type != "cpu"
    why = [f"{count} pictures to train on, {len(sources) - count} held out for measurements"]
    chosen: dict[str, Any] = {}
    if "condition" not in given:
        chosen["condition"], reason = _suggest_condition(requested, sources)
        why.append(reason)
    merged = {**requested.model_dump(), **chosen}
    if merged["condition"] in ("class", "codes"):
        chosen["holes"] = False
    elif merged["holes"]:
        why.append("holes are learned too, so that pictures can be completed and extended in every direction")
    batch = min(64 if gpu else 32, max(1, count))
    chosen |= {"batch_size": batch, "views": 16 if count < 200 else 8 if count < 2000 else 4}
    if gpu:
        chosen |= {"grid": 16, "layers": 12, "heads": 8, "width": 512}
    elif count < 500:
        chosen |= {"layers": 4, "heads": 4, "width": 192}
    chosen |= {"dropout": 0.2 if count < 500 else 0.1 if count < 5000 else 0.0, "measure_every": 250 if gpu else 100}
    epochs = 400 if count < 1000 else 100
    steps = max(400, min(40_000 if gpu else 4_000, epochs * count // batch))
    chosen |= {"steps": steps, "warmup": min(200, steps // 10)}
    chosen = {k: v for k, v in chosen.items() if k not in given}
    settings = TrainTransformerSettings.parse({**requested.model_dump(), **chosen}).quick()
    why.append(f"{settings.layers} layers of {settings.width}, a window of {settings.grid}x{settings.grid} codes")
    why.append(f"at most {settings.steps} steps of {settings.batch_size} pictures, fewer if early stopping ends them")
    return settings, why


def _suggest_condition(requested: TrainTransformerSettings, sources: Sequence[PictureSource]) -> tuple[str, str]:
    """The condition that the folder offers, and the reason."""
    if requested.others:
        return "codes", f"each picture is conditioned on the one of the same name in {requested.others}"
    captions = find_captions(Path(requested.folder), sources)
    if sum(map(bool, captions)) > len(captions) // 2:
        return "caption", "the pictures have captions, which become the condition"
    names = class_names(sources)
    if 2 <= len(names) <= min(200, len(sources) // 4):
        return "class", f"the folders are classes: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
    return "none", "no captions and no subfolders: pictures are learned without a condition"
