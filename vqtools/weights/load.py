"""Loading networks by name: shipped, downloaded or trained models, files anywhere, and open_clip's CLIPs.

Knows names, paths and files; nothing about what networks are used for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, overload

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

NetworkT = TypeVar("NetworkT", VQGAN, GPT, CLIP)


def resolve_path(kind: NetworkKind, name: str) -> Path:
    """Return the file of a network (the folder of a CLIP) from a path, a name in weights.txt, or a model's file name.

    A path can lead to another program's checkpoint, which is converted once. Raises UserError if there is no such
    network, or if it is not downloaded yet.
    """
    suffix = "" if kind == "clip" else ".safetensors"
    if Path(name).suffix or os.sep in name:
        if not Path(name).exists():
            raise UserError(f"{kind} {name!r} is not there; expected a file or a name of a network")
        return convert_cached(Path(name), kind) if suffix else Path(name)
    listed = {record.name: record for record in all_records() if record.kind == kind}
    known = {record.name: record.path for record in listed.values() if record.path.exists()}
    for path in sorted(home_folder().glob("*.safetensors" if suffix else "*/open_clip_config.json")):
        if not suffix or read_kind(path) == kind:
            known[path.stem if suffix else path.parent.name] = path if suffix else path.parent
    if name in known:
        return known[name]
    if name in listed:
        raise UserError(f"the {kind} {name!r} is not downloaded yet; download it with: vqtools weights fetch {name}")
    raise UserError(f"there is no {kind} named {name!r}{did_you_mean(name, known)}")


@dataclass(frozen=True)
class LoadedNetwork(Generic[NetworkT]):
    """A network with the name by which it was loaded and the path of its file.

    path: None for a CLIP that open_clip downloads and stores itself.
    """

    network: NetworkT
    name: str
    path: Path | None

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, computed once per version of the file; "" if there is no path."""
        return file_sha256(self.path) if self.path else ""

    @property
    def trained_with(self) -> Mapping[str, Any]:
        """The "about" entry of the file's header, with the hashes of a transformer's VQGAN and CLIP. Not for CLIPs."""
        about: Mapping[str, Any] = read_header(self.path)["about"] if self.path else {}
        return about

    @property
    def record(self) -> dict[str, str]:
        """The entry for a picture's record: {"name": …, "sha256": …}."""
        return {"name": self.name, "sha256": self.sha256}


@overload
def load_network(kind: Literal["vqgan"], name: str) -> LoadedNetwork[VQGAN]: ...
@overload
def load_network(kind: Literal["transformer"], name: str) -> LoadedNetwork[GPT]: ...
@overload
def load_network(kind: Literal["clip"], name: str) -> LoadedNetwork[CLIP]: ...
def load_network(kind: str, name: str) -> LoadedNetwork[Any]:
    """Load a network in fp32, on the CPU, frozen. The last two networks of a kind are cached.

    kind: "vqgan", "transformer" or "clip".
    name: the name of a shipped, downloaded or trained network; a path, also to another program's checkpoint; or
        open_clip's NAME/TAG for a CLIP. Raises UserError if there is no such network.
    """
    if kind == "clip" and "/" in name and not Path(name).exists():
        return LoadedNetwork(_cached_open_clip(name), name, None)
    path = resolve_path(cast(NetworkKind, kind), name)
    return LoadedNetwork(_READERS[kind](*_path_and_mtime(path)), name, path)


def load_vqgan(name: str = "starter") -> VQGAN:
    """Load a VQGAN by name, path, or another program's checkpoint: in fp32, on the CPU, frozen."""
    return load_network("vqgan", name).network


def load_transformer(name: str = "starter") -> GPT:
    """Load a transformer by name, path, or another program's checkpoint: in fp32, on the CPU, frozen."""
    return load_network("transformer", name).network


def load_clip(name: str = "starter") -> CLIP:
    """Load a CLIP: "starter", a folder of open_clip, or open_clip's NAME/TAG, as "ViT-B-32-quickgelu/openai"."""
    return load_network("clip", name).network


def mismatch_reason(transformer: Path, others: Mapping[str, Path]) -> str:
    """Return why a transformer does not match a VQGAN and a CLIP, or "". Its file states the hashes of its own."""
    trained_with = read_header(transformer)["about"]
    for kind in ("vqgan", "clip"):
        if kind not in others or file_sha256(others[kind]) != trained_with.get(kind):
            return f"the transformer {transformer.stem!r} was trained with another {kind}; choose its own, or none"
    return ""


def _path_and_mtime(path: Path) -> tuple[Path, int]:
    """Return a path and the modification time of its file, so that a model that was trained again is loaded again."""
    file = path / "open_clip_model.safetensors" if path.is_dir() else path
    return path, file.stat().st_mtime_ns if file.exists() else 0


@lru_cache(maxsize=2)
def _cached_vqgan(path: Path, _mtime: int) -> VQGAN:
    return read_vqgan(path)


@lru_cache(maxsize=2)
def _cached_transformer(path: Path, _mtime: int) -> GPT:
    return read_transformer(path)


@lru_cache(maxsize=2)
def _cached_clip(path: Path, _mtime: int) -> CLIP:
    return read_clip_folder(path)


_cached_open_clip = lru_cache(maxsize=2)(load_open_clip)


_READERS: dict[str, Callable[[Path, int], Any]] = {
    "vqgan": _cached_vqgan,
    "transformer": _cached_transformer,
    "clip": _cached_clip,
}
