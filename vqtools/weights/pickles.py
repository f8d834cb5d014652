"""Reading the tensors of other programs' checkpoints without running code from the file.

Knows torch's zip files, safetensors and the classes that trainers leave in pickles; nothing about networks. Files are
untrusted: a file that cannot be read is a UserError that names what it is instead.
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
# what trainers leave in a checkpoint beside its tensors (also a score as a numpy scalar): not needed
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
    """A substitute for a class of a trainer, which accepts any state and ignores it."""

    def __new__(cls, *_args: Any, **_keywords: Any) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by their keys.

    path: a file of torch or safetensors, a zip archive with one, or a folder of diffusers. Dictionaries around the
    tensors ("state_dict", "model", "ema") are removed.

    Raises UserError for another file, and for one that could run code.
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
    """Return the file of weights for a path: the file itself, or the one in a folder of diffusers."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path} is not there; expected a checkpoint")
    for name in (f"{DIFFUSERS_STEM}.safetensors", f"{DIFFUSERS_STEM}.bin", f"{DIFFUSERS_STEM}.fp16.safetensors"):
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path} is a folder without {DIFFUSERS_STEM}.safetensors; give the path of the checkpoint itself")


def _describe_non_checkpoint(start: bytes) -> str:
    """Describe a file that is not a checkpoint by its first bytes, with the way out."""
    text = start.lstrip().lower()
    if not start:
        return "is empty; download it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a checkpoint; open the download link in a browser to see why"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; download the file"
    if start[:1] == b"\x80":
        return (
            "is in the format of torch before version 1.6, which cannot be checked for code before it is opened; if "
            "you trust it, open it with torch.load and save it again with torch.save"
        )
    return f"is not a checkpoint; expected a file that ends in {', '.join(CHECKPOINT_SUFFIXES)} or .zip"


def _zip_member(path: Path) -> str:
    """Return the name of the only checkpoint in a zip archive, "" for a file of torch.save (a zip archive too)."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged archive fails in many ways, not with BadZipFile alone
        raise UserError(f"{path} is incomplete or damaged ({error}); download it again") from None
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise UserError(f"{path} is a TorchScript archive, which runs code when it is opened; it was not opened")
    if any(name.endswith("/data.pkl") for name in names):
        return ""
    inside = [name for name in names if name.endswith(CHECKPOINT_SUFFIXES)]
    if len(inside) == 1 and path.suffix == ".zip":
        return inside[0]
    way_out = f"unpack it and use {inside[0]}" if inside else "expected a file that torch.save wrote"
    raise UserError(f"{path} is a plain zip archive, not a checkpoint; {way_out}")


def _read_zip_member(path: Path, member: str) -> dict[str, Tensor]:
    """Unpack a checkpoint from a zip archive to a temporary folder beside it, and read it."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / Path(member).name
        try:
            with zipfile.ZipFile(path) as archive:
                size, free = archive.getinfo(member).file_size, shutil.disk_usage(folder).free
                if size > free:
                    raise UserError(f"{path} unpacks to {size:,} bytes; {path.parent} has space for {free:,} only")
                with archive.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} could not be unpacked ({error}); download it again") from None
        # copies, because the tensors are mapped from a file that is deleted
        return {key: value.clone() for key, value in read_tensors(target).items()}


def _load_pickle(path: Path) -> Any:
    """Load a file with torch's restricted unpickler, with stand-ins for the classes that trainers leave in it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if unknown := sorted(set(names) - _IGNORED_CLASSES - _DICT_CLASSES):
            raise UserError(
                f"{path} loads {', '.join(map(shorten, unknown[:3]))}, which is not part of a checkpoint that vqtools "
                "supports and could run code; it was not opened"
            )
        stand_ins: list[Any] = [(OrderedDict if name in _DICT_CLASSES else _StandIn, name) for name in names]
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: a file that cannot be read is an error anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except Exception as error:  # a malicious pickle can fail in any way
        reason = " ".join(str(error).split("\n")[0].split())[:160]
        raise UserError(f"{path} is damaged, or not a checkpoint ({type(error).__name__}: {reason})") from None


def _unwrap(loaded: Any, path: Path) -> Mapping[Any, Any]:
    """Return the mapping of tensors inside the dictionaries of trainers; EMA weights are preferred."""
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        inner = [loaded[key] for key in ("ema", "state_dict", "model") if isinstance(loaded.get(key), Mapping)]
        if not inner and any(isinstance(value, Tensor) for value in loaded.values()):
            return loaded
        loaded = inner[0] if inner else None
    raise UserError(
        f"{path} contains no tensors of a network; expected a dictionary of them, or one under 'state_dict'"
    )


def _check_tensors(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors. Raises UserError unless all are dense, and no tensor is larger than its storage."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise UserError(f"{path} contains {shorten(key)}, which is not a tensor")
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: the tensor {shorten(key)} is not stored in full; the file was not opened")
        tensors[key] = value.detach()
    return tensors
