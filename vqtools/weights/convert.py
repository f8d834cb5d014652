"""Other people's checkpoints become our own files, once: read, compared with a key table, written as safetensors.

Knows files, and what stands beside them (a yaml, a diffusers config.json); the tables are in keys.py, the safe
reading in pickles.py. Nothing is written before everything fits, and then atomically.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from vqtools.core.errors import UserError
from vqtools.core.paths import home_folder
from vqtools.weights.key_maps import map_checkpoint
from vqtools.weights.model_file import file_sha256, read_kind, save_model
from vqtools.weights.pickles import DIFFUSERS_STEM, checkpoint_file, read_tensors
from vqtools.weights.registry import NetworkKind

OutputPath = Callable[[str, bool], Path]  # kind, and whether it is the checkpoint's main network -> file
_MTIME_TOLERANCE = 2.0  # seconds; some file systems store no finer
_MAX_CONFIG_BYTES = 1 << 20  # bytes; published ones have about a thousand


@dataclass(frozen=True)
class Conversion:
    """What was written: kinds and their files, the family that the checkpoint is of, and what to know about it."""

    family: str
    files: dict[str, Path]
    notes: tuple[str, ...]


def convert(
    source: Path,
    place: OutputPath,
    *,
    kind: str = "",
    config: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Conversion:
    """Convert a checkpoint to our files, each network in it ("vqgan", "condition", "transformer") at its `place`.

    kind: what must be there; "vqgan" takes nothing else. config: instead of what stands beside the checkpoint.
    about: goes into the headers. UserError where the file can't be read or doesn't fit; then nothing is written.
    """
    beside = read_config(config or find_config(source))
    try:
        found = map_checkpoint(read_tensors(source), beside, kind)
    except UserError as error:
        text = str(error)
        raise UserError(text if str(source) in text else f"{source}: {text}") from None
    # nothing of this machine: the same checkpoint becomes the same bytes everywhere, and pictures name their hash
    told = {"sha256": file_sha256(checkpoint_file(source)), **(about or {})}
    written: dict[str, Path] = {}
    try:
        for part in found:  # a transformer comes last and names the VQGAN that it belongs to
            path = place(part.kind, part is found[-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            own = {"vqgan": file_sha256(written["vqgan"])} if part.kind == "transformer" and "vqgan" in written else {}
            header = {**told, **part.about, **own, "family": part.family}
            save_model(path, part.kind, part.config, part.tensors, **header)
            written[part.kind] = path
    except BaseException as error:
        for path in written.values():
            path.unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError | RuntimeError):
            raise UserError(f"{source} could not be written as {path}: {' '.join(str(error).split())[:200]}") from None
        raise
    return Conversion(found[-1].family, written, tuple(dict.fromkeys(note for part in found for note in part.notes)))


def convert_cached(source: Path, kind: NetworkKind) -> Path:
    """Our file of what a path means: itself where it is ours, else what it is converted to, once.

    The converted file lies beside the checkpoint as NAME.KIND.safetensors, or, where nothing can be written there,
    in the models' folder. It is made anew when the checkpoint has changed.
    """
    file = checkpoint_file(source)
    if read_kind(file):
        return file
    mark = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    beside, ours = file.with_suffix(""), home_folder() / "converted" / f"{file.stem}-{mark}"
    for stem in (beside, ours):
        target = _paths_by_kind(stem)(kind, True)
        if read_kind(target) == kind and abs(target.stat().st_mtime - file.stat().st_mtime) < _MTIME_TOLERANCE:
            return target
    place = _paths_by_kind(beside if os.access(file.parent, os.W_OK) else ours)
    written = convert(source, place, kind=kind).files
    stat = file.stat()
    for path in written.values():  # by its time a changed checkpoint is told from the one that was converted
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return written[kind]


def _paths_by_kind(stem: Path) -> OutputPath:
    return lambda kind, main: stem.with_name(f"{stem.name}.{kind}.safetensors")


def paths_by_name(folder: Path, name: str) -> OutputPath:
    """Where what people call by a name lies: its main network as NAME, what else is in it as NAME-vqgan …"""
    return lambda kind, main: folder / (f"{name}.safetensors" if main else f"{name}-{kind}.safetensors")


def find_config(source: Path) -> Path | None:
    """The config that stands beside a checkpoint, where the tools of its family put it."""
    if source.is_dir() or source.name.startswith(DIFFUSERS_STEM):
        path = (source if source.is_dir() else source.parent) / "config.json"
        return path if path.is_file() else None
    folder = source.parent
    known = [source.with_suffix(".yaml"), source.with_suffix(".yml"), folder / "model.yaml", folder / "config.yaml"]
    logs = folder.parent / "configs"  # a taming run keeps checkpoints/ and configs/ side by side
    known += [*sorted(logs.glob("*-project.yaml"), reverse=True), logs / "model.yaml"]
    return next((path for path in known if path.is_file()), None)


def read_config(path: Path | None) -> dict[str, Any]:
    """A yaml or json as plain data; tags that would make objects are refused."""
    if path is None:
        return {}
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes; a checkpoint's config has a few thousand")
        text = path.read_text("utf-8")
        loaded = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} can't be read as a config: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} is no config; expected keys and values")
    return loaded
