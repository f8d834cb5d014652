"""Conversion of other programs' checkpoints to our own files: read, match with a key map, write as safetensors.

Knows files and the configs beside them (a YAML file, or config.json of diffusers); nothing about keys, which `key_maps`
knows, or pickles, which `pickles` reads safely. Nothing is written until everything fits, and then atomically.
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

OutputPath = Callable[[str, bool], Path]
"""Returns the file for a kind of network; the flag is True for the main network of the checkpoint."""

_MTIME_TOLERANCE = 2.0  # seconds: the resolution of some file systems
_MAX_CONFIG_BYTES = 1 << 20  # published ones have about a thousand


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion: the family of the checkpoint, the files by kind, and notes for the user."""

    family: str
    files: dict[str, Path]
    notes: tuple[str, ...]


def convert(
    source: Path,
    output_path: OutputPath,
    *,
    kind: str = "",
    config: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Conversion:
    """Convert each network of a checkpoint ("vqgan", "condition", "transformer") to a file of our own.

    kind: the kind that the checkpoint must contain; "vqgan" converts nothing else.
    config: a config file, instead of the one beside the checkpoint.
    about: further entries of the headers.

    Raises UserError if the file cannot be read or does not fit; then no file is left.
    """
    config_values = read_config(config or find_config(source))
    try:
        networks = map_checkpoint(read_tensors(source), config_values, kind)
    except UserError as error:
        text = str(error)
        raise UserError(text if str(source) in text else f"{source}: {text}") from None
    # nothing specific to this machine: records of pictures contain the hash, so the same checkpoint must give the same
    # bytes everywhere
    origin = {"sha256": file_sha256(checkpoint_file(source)), **(about or {})}
    written: dict[str, Path] = {}
    try:
        for network in networks:  # a transformer comes last, and its header has the hash of its VQGAN
            path = output_path(network.kind, network is networks[-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            has_vqgan = network.kind == "transformer" and "vqgan" in written
            vqgan = {"vqgan": file_sha256(written["vqgan"])} if has_vqgan else {}
            header = {**origin, **network.about, **vqgan, "family": network.family}
            save_model(path, network.kind, network.config, network.tensors, **header)
            written[network.kind] = path
    except BaseException as error:
        for path in written.values():
            path.unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError | RuntimeError):
            raise UserError(f"{source} could not be written as {path}: {' '.join(str(error).split())[:200]}") from None
        raise
    notes = dict.fromkeys(note for network in networks for note in network.notes)
    return Conversion(networks[-1].family, written, tuple(notes))


def convert_cached(source: Path, kind: NetworkKind) -> Path:
    """Return a file of our own for a path: the file itself if it is one, else the checkpoint converted once.

    The converted file is NAME.KIND.safetensors beside the checkpoint, or in the home folder if the checkpoint's folder
    is read-only. A checkpoint that has changed is converted again.
    """
    file = checkpoint_file(source)
    if read_kind(file):
        return file
    path_hash = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    beside, at_home = file.with_suffix(""), home_folder() / "converted" / f"{file.stem}-{path_hash}"
    for stem in (beside, at_home):
        target = _paths_by_kind(stem)(kind, True)
        if read_kind(target) == kind and abs(target.stat().st_mtime - file.stat().st_mtime) < _MTIME_TOLERANCE:
            return target
    output_path = _paths_by_kind(beside if os.access(file.parent, os.W_OK) else at_home)
    written = convert(source, output_path, kind=kind).files
    stat = file.stat()
    for path in written.values():  # by this time a changed checkpoint is recognised
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return written[kind]


def paths_by_name(folder: Path, name: str) -> OutputPath:
    """Return paths by name: NAME.safetensors for the main network, NAME-vqgan.safetensors and so on for the others."""
    return lambda kind, main: folder / (f"{name}.safetensors" if main else f"{name}-{kind}.safetensors")


def find_config(source: Path) -> Path | None:
    """Return the config file of a checkpoint, at the place where the tools of its family write it, or None."""
    if source.is_dir() or source.name.startswith(DIFFUSERS_STEM):
        path = (source if source.is_dir() else source.parent) / "config.json"
        return path if path.is_file() else None
    folder = source.parent
    candidates = [
        source.with_suffix(".yaml"),
        source.with_suffix(".yml"),
        folder / "model.yaml",
        folder / "config.yaml",
    ]
    configs = folder.parent / "configs"  # a run of taming-transformers has checkpoints/ and configs/
    candidates += [*sorted(configs.glob("*-project.yaml"), reverse=True), configs / "model.yaml"]
    return next((path for path in candidates if path.is_file()), None)


def read_config(path: Path | None) -> dict[str, Any]:
    """Read a YAML or JSON file as plain data, {} for None. Raises UserError for another file, and for YAML tags."""
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
        raise UserError(f"{path} cannot be read as a config: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} is not a config; expected keys and values")
    return loaded


def _paths_by_kind(stem: Path) -> OutputPath:
    return lambda kind, _main: stem.with_name(f"{stem.name}.{kind}.safetensors")
