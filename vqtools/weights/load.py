"""Networks by name: of those that ship, that were fetched or trained, or that lie somewhere as a file.

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
        raise UserError(f"the {kind} {name!r} is known but not here; download it with: vqtools weights fetch {name}")
    raise UserError(f"no {kind} is called {name!r}{did_you_mean(name, known)}")


@dataclass(frozen=True)
class LoadedNetwork(Generic[NetworkT]):
    """A network with the name it was asked by and the file it came from.

    path: None for a CLIP that open_clip keeps itself, which is known by its name alone.
    """

    network: NetworkT
    name: str
    path: Path | None

    @property
    def sha256(self) -> str:
        """Of the file, read once per file and change; "" where there is no file of ours."""
        return file_sha256(self.path) if self.path else ""

    @property
    def trained_with(self) -> Mapping[str, Any]:
        """What the file's header says about the training: hashes of the VQGAN and CLIP among it. Not for CLIPs."""
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
    """Resolve a name once and load the network: in fp32, on the CPU, frozen. The last two of a kind stay in memory.

    kind: "vqgan", "transformer" or "clip". name: of a network that ships, was fetched or was trained; a path, also to
    another program's checkpoint; for a CLIP also open_clip's NAME/TAG. UserError if there is none of that name.
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
    """Load a CLIP: "starter", a folder in open_clip's form, or open_clip's NAME/TAG as "ViT-B-32-quickgelu/openai"."""
    return load_network("clip", name).network


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


_READERS: dict[str, Callable[[Path, int], Any]] = {
    "vqgan": _cached_vqgan, "transformer": _cached_transformer, "clip": _cached_clip,
}  # fmt: skip


def mismatch_reason(transformer: Path, others: Mapping[str, Path]) -> str:
    """Why a transformer can't draw for this VQGAN and CLIP, or "": it knows the files it was trained with."""
    trained = read_header(transformer)["about"]
    for kind in ("vqgan", "clip"):
        if kind not in others or file_sha256(others[kind]) != trained.get(kind):
            return f"the transformer {transformer.stem!r} was trained with another {kind}; choose its own, or none"
    return ""
