"""Tensors out of other people's checkpoints, without ever running a line of what the file says.

Knows torch's zip files, safetensors and the classes that trainers leave inside pickles; nothing about networks.
Every file is hostile until proved otherwise: what can't be read is a UserError that says what the file is instead.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vqtools.core.errors import UserError, shorten

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
DIFFUSERS_STEM = "diffusion_pytorch_model"

_LIGHTNING = ("pytorch_lightning", "lightning.pytorch", "lightning")
# what trainers leave in a checkpoint beside its tensors (a score as a numpy scalar, too): of no use to us
_IGNORED_CLASSES = {
    f"{root}.callbacks.{name}"
    for root in _LIGHTNING
    for name in (
        "model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping", "lr_monitor.LearningRateMonitor",
        "lr_logger.LearningRateLogger", "gpu_stats_monitor.GPUStatsMonitor", "progress.ProgressBar",
    )
} | {"argparse.Namespace", "numpy.dtype", "numpy.ndarray"}  # fmt: skip
_IGNORED_CLASSES |= {
    f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")
}
_DICT_CLASSES = {f"{root}.utilities.{name}.AttributeDict" for root in _LIGHTNING for name in ("parsing", "argparse")}


class _StandIn:
    """Stands in for a class of a trainer: takes anything, keeps nothing, does nothing."""

    def __new__(cls, *args: Any, **keywords: Any) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *args: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their keys: a file of torch or safetensors, a zip that holds one, or a
    diffusers folder. Wrappers that trainers put around them ("state_dict", "model", "ema") are taken off.
    """
    path = checkpoint_file(path)
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"PK"):
        if member := _zip_member(path):
            return _read_zip_member(path, member)
        return _check_tensors(_unwrap(_load_pickle(path), path), path)
    if start[8:9] == b"{":
        try:
            return _check_tensors(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is incomplete or damaged ({error}); download it again") from None
    raise UserError(f"{path} {_describe_non_checkpoint(start)}")


def checkpoint_file(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one in a folder as diffusers writes it."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path} is not there; expected a checkpoint")
    for name in (f"{DIFFUSERS_STEM}.safetensors", f"{DIFFUSERS_STEM}.bin", f"{DIFFUSERS_STEM}.fp16.safetensors"):
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path} is a folder without {DIFFUSERS_STEM}.safetensors; name the checkpoint's file itself")


def _describe_non_checkpoint(start: bytes) -> str:
    """What a file is that is no checkpoint, by its first bytes, and the way out."""
    text = start.lstrip().lower()
    if not start:
        return "is empty; download it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a checkpoint; the download link asked for something: open it in a browser"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; download the file"
    if start[:1] == b"\x80":
        return (
            "is in the old format that torch wrote before version 1.6, which can't be searched for code before it is "
            "opened; if you trust it, open it with torch.load and save it again with torch.save"
        )
    return f"is no checkpoint; expected a file that ends in {', '.join(CHECKPOINT_SUFFIXES)} or .zip"


def _zip_member(path: Path) -> str:
    """ "" for a file of torch.save; of a .zip that holds one checkpoint, that checkpoint's name in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged archive fails in many ways, not with BadZipFile alone
        raise UserError(f"{path} is incomplete or damaged ({error}); download it again") from None
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise UserError(f"{path} is a TorchScript archive, which runs code when it is opened; not opened")
    if any(name.endswith("/data.pkl") for name in names):
        return ""
    inside = [name for name in names if name.endswith(CHECKPOINT_SUFFIXES)]
    if len(inside) == 1 and path.suffix == ".zip":
        return inside[0]
    way_out = f"unpack it and take {inside[0]}" if inside else "expected a file that torch.save wrote"
    raise UserError(f"{path} is a plain zip archive, not a checkpoint; {way_out}")


def _read_zip_member(path: Path, member: str) -> dict[str, Tensor]:
    """Unpack a checkpoint from a zip beside it, read it, and take the unpacked file away again."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / Path(member).name
        try:
            with zipfile.ZipFile(path) as archive:
                size, free = archive.getinfo(member).file_size, shutil.disk_usage(folder).free
                if size > free:
                    raise UserError(f"{path} unpacks to {size:,} bytes; {path.parent} has room for {free:,} only")
                with archive.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} could not be unpacked ({error}); download it again") from None
        # copied, because the file that they are mapped from goes away
        return {key: value.clone() for key, value in read_tensors(target).items()}


def _load_pickle(path: Path) -> Any:
    """Torch's own restricted unpickler, with empty stand-ins for what trainers leave behind."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if strange := sorted(set(names) - _IGNORED_CLASSES - _DICT_CLASSES):
            raise UserError(
                f"{path} wants to load {', '.join(map(shorten, strange[:3]))}, which is no part of a checkpoint that "
                "vqtools knows and could run code; not opened"
            )
        stand_ins: list[Any] = [(OrderedDict if name in _DICT_CLASSES else _StandIn, name) for name in names]
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols: what can't be read is an error anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except Exception as error:  # a hostile pickle may fail in any way at all
        reason = " ".join(str(error).split("\n")[0].split())[:160]
        raise UserError(f"{path} is damaged, or no checkpoint ({type(error).__name__}: {reason})") from None


def _unwrap(loaded: Any, path: Path) -> Mapping[Any, Any]:
    """The mapping of tensors inside the dictionaries that trainers wrap around it; averaged weights go first."""
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        inner = [loaded[key] for key in ("ema", "state_dict", "model") if isinstance(loaded.get(key), Mapping)]
        if not inner and any(isinstance(value, Tensor) for value in loaded.values()):
            return loaded
        loaded = inner[0] if inner else None
    raise UserError(f"{path} holds no network's tensors; expected a dictionary of them, or one under 'state_dict'")


def _check_tensors(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Plain dense tensors only, none larger than the numbers that are there for it."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise UserError(f"{path} has {shorten(key)}, which is no tensor")
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: the tensor {shorten(key)} is not stored in full; not opened")
        tensors[key] = value.detach()
    return tensors
