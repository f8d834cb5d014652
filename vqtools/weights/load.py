"""Networks by name: of those that ship, that were fetched or trained, or that lie somewhere as a file.

Knows names, paths and files; nothing about what networks are used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from vqtools.core.errors import UserError, did_you_mean
from vqtools.core.paths import home_folder
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.weights.convert import convert_cached
from vqtools.weights.model_file import (
    file_sha256,
    load_open_clip,
    read_clip_folder,
    read_header,
    read_kind,
    read_transformer,
    read_vqgan,
)
from vqtools.weights.registry import NetworkKind, all_records


def resolve_path(kind: NetworkKind, name: str) -> Path:
    """The file (a CLIP's folder) of a network: a path, a name of weights.txt, or a model in the models' folder.

    A path may lead to another program's checkpoint: it is converted once, and found converted from then on.
    """
    suffix = "" if kind == "clip" else ".safetensors"
    if Path(name).suffix or os.sep in name:
        if not Path(name).exists():
            raise UserError(f"{kind} {name!r} is not there; expected a file of a network, or a name")
        return convert_cached(Path(name), kind) if suffix else Path(name)
    listed = {record.name: record for record in all_records() if record.kind == kind}
    known = {one.name: one.place for one in listed.values() if one.place.exists()}
    for path in sorted(home_folder().glob("*.safetensors" if suffix else "*/open_clip_config.json")):
        if not suffix or read_kind(path) == kind:
            known[path.stem if suffix else path.parent.name] = path if suffix else path.parent
    if name in known:
        return known[name]
    if name in listed:
        raise UserError(f"the {kind} {name!r} is known but not here; bring it with: vqtools weights fetch {name}")
    raise UserError(f"no {kind} is called {name!r}{did_you_mean(name, known)}")


def load_vqgan(name: str = "starter") -> VQGAN:
    """A VQGAN by name, path, or another program's checkpoint: in fp32, on the CPU, frozen."""
    return _cached_vqgan(*_path_and_mtime(resolve_path("vqgan", name)))


def load_transformer(name: str = "starter") -> GPT:
    """A transformer by name, path, or another program's checkpoint: in fp32, on the CPU, frozen."""
    return _cached_transformer(*_path_and_mtime(resolve_path("transformer", name)))


def load_clip(name: str = "starter") -> CLIP:
    """A CLIP: "starter", a folder in open_clip's form, or open_clip's NAME/TAG as "ViT-B-32-quickgelu/openai"."""
    return (
        _cached_open_clip(name)
        if "/" in name and not Path(name).exists()
        else _cached_clip(*_path_and_mtime(resolve_path("clip", name)))
    )


def _path_and_mtime(path: Path) -> tuple[Path, int]:
    """A path and when its file was written: a model that is trained again under its name is loaded again."""
    file = path / "open_clip_model.safetensors" if path.is_dir() else path
    return path, file.stat().st_mtime_ns if file.exists() else 0


@lru_cache(maxsize=2)
def _cached_vqgan(path: Path, version: int) -> VQGAN:
    return read_vqgan(path)


@lru_cache(maxsize=2)
def _cached_transformer(path: Path, version: int) -> GPT:
    return read_transformer(path)


@lru_cache(maxsize=2)
def _cached_clip(path: Path, version: int) -> CLIP:
    return read_clip_folder(path)


_cached_open_clip = lru_cache(maxsize=2)(load_open_clip)


def mismatch_reason(transformer: Path, others: Mapping[str, Path]) -> str:
    """Why a transformer can't draw for this VQGAN and CLIP, or "": it knows the files it was trained with."""
    trained = read_header(transformer)["about"]
    for kind in ("vqgan", "clip"):
        if kind not in others or file_sha256(others[kind]) != trained.get(kind):
            return f"the transformer {transformer.stem!r} was trained with another {kind}; choose its own, or none"
    return ""
