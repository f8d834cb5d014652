"""Our own files of weights: one safetensors file per model, with its config in the header.

A CLIP is a folder in open_clip's format instead. Knows files and networks; nothing about prompts or training. Files are
untrusted: no pickle is opened here, and a header that does not fit the tensors is an error that names them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vqtools.core.errors import UserError
from vqtools.core.files import atomic_write
from vqtools.models.clip import CLIP, fold_batch_norms
from vqtools.models.gpt import GPT, GPTConfig
from vqtools.models.perceptual import PerceptualDistance
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.weights.registry import WeightsRecord

ModuleT = TypeVar("ModuleT", bound=nn.Module)

STARTER = Path(__file__).parent / "starter"
SCALE_SUFFIX = ".int8_scale"  # of the tensor with the scale of each row of an int8 matrix


def save_model(path: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], **about: Any) -> None:
    """Write a model atomically. kind: "vqgan", "transformer" …; about: further entries of the header."""
    header = json.dumps({"kind": kind, "config": config, "about": about}, sort_keys=True)
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"vqtools": header})
        temporary.chmod(0o644)  # safetensors creates files that only their owner can read


def quantize_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise matrices to int8 with a scale per row, and convert other tensors to fp16: half the size of fp16 alone.

    The error is at most 1/254 of the largest absolute value of a row. :func:`dequantize` undoes this.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and tensor.is_floating_point():
            scale = (tensor.abs().amax(1) / 127).clamp(min=1e-12)
            out[name] = (tensor / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
            out[name + SCALE_SUFFIX] = scale
        else:
            out[name] = tensor.half() if tensor.is_floating_point() else tensor
    return out


def dequantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors of :func:`quantize_int8`, or plain fp16, to fp32."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name + SCALE_SUFFIX in tensors:
            out[name] = tensor.float() * tensors[name + SCALE_SUFFIX].float()[:, None]
        elif not name.endswith(SCALE_SUFFIX):
            out[name] = tensor.float() if tensor.is_floating_point() else tensor
    return out


def read_header(path: Path) -> dict[str, Any]:
    """Read kind, config and about of one of our files. Raises UserError for another file."""
    if not path.is_file():
        raise UserError(f"{path} is not there")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["vqtools"])
    except (SafetensorError, OSError, KeyError, ValueError):
        raise UserError(f"{path} is not a model of vqtools; expected a .safetensors file that vqtools wrote") from None
    if not isinstance(header, dict) or not {"kind", "config"} <= set(header):
        raise UserError(f"{path} has a header that vqtools does not support")
    return header


def read_kind(path: Path) -> str:
    """Return the kind of network in a file, "" for a file that is not ours."""
    try:
        return str(read_header(path)["kind"])
    except UserError:
        return ""


def read_vqgan(path: Path) -> VQGAN:
    """Read a VQGAN: in fp32, on the CPU, frozen."""
    return _read_module(path, "vqgan", _build_vqgan)


def read_condition_vqgan(path: Path) -> VQGAN:
    """Read the VQGAN of label maps that encodes the condition of a transformer over segmentations."""
    return _read_module(path, "condition", _build_vqgan)


def read_transformer(path: Path) -> GPT:
    """Read a transformer: in fp32, on the CPU, frozen."""
    return _read_module(path, "transformer", lambda config: GPT(GPTConfig.from_dict(config)))


def read_perceptual(path: Path) -> PerceptualDistance:
    """Read the perceptual distance that ships with the starter models."""
    return _read_module(path, "perceptual", lambda _: PerceptualDistance())


def read_clip_folder(folder: Path) -> CLIP:
    """Read a CLIP of our own: a folder of open_clip with a tokenizer.json of the tokenizers package."""
    import open_clip
    from tokenizers import Tokenizer

    for name in ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a CLIP of vqtools: {name} is missing")
    model = open_clip.create_model(f"local-dir:{folder}")
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def tokenize(texts: list[str]) -> Tensor:
        return torch.tensor([encoded.ids for encoded in pieces.encode_batch(texts)])

    clip = _wrap_open_clip(model, tokenize, folder.name)
    fold_batch_norms(clip.model)
    return clip.requires_grad_(False)


def load_open_clip(name: str) -> CLIP:
    """Load a public CLIP by open_clip's NAME/TAG, such as "ViT-B-32-quickgelu/openai".

    Uses the file that `vqtools weights fetch` downloaded and checked, if it exists; else open_clip downloads its own.
    """
    import open_clip

    architecture, _, tag = name.partition("/")
    if (architecture, tag) not in open_clip.list_pretrained():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UserError(
            f"no CLIP {name!r}: "
            + (f"{architecture} has the tags {', '.join(tags)}" if tags else "expected starter or open_clip's NAME/TAG")
        )
    downloaded = WeightsRecord(name, "clip").path
    try:
        if downloaded.is_file():
            preprocess = open_clip.get_pretrained_cfg(architecture, tag)
            model = open_clip.create_model(architecture, pretrained=str(downloaded), force_preprocess_cfg=preprocess)
        else:
            model = open_clip.create_model(architecture, pretrained=tag)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} could not be downloaded: {' '.join(str(error).split())[:200]}") from None
    return _wrap_open_clip(model, open_clip.get_tokenizer(architecture), name)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; for the folder of a CLIP, that of its weights."""
    path = path / "open_clip_model.safetensors" if path.is_dir() else path
    stat = path.stat()
    return _cached_sha256(path, stat.st_size, stat.st_mtime_ns)


def _build_vqgan(config: Mapping[str, Any]) -> VQGAN:
    return VQGAN(VQGANConfig.from_dict(config))


def _read_module(path: Path, kind: str, build: Callable[[Any], ModuleT]) -> ModuleT:
    """Build a network from the config in a file's header and load its tensors. Raises UserError if they differ."""
    header = read_header(path)
    if header["kind"] != kind:
        raise UserError(f"{path} contains a {header['kind']}; expected a {kind}")
    try:
        with torch.device("meta"):  # without initial values, which the file replaces
            model = build(header["config"])
        model.load_state_dict(dequantize(load_file(path)), assign=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path} does not fit its own description: {' '.join(str(error).split())[:300]}") from None
    return model.eval().requires_grad_(False)


def _wrap_open_clip(model: Any, tokenizer: Any, name: str) -> CLIP:
    preprocess = model.visual.preprocess_cfg
    size = preprocess["size"] if isinstance(preprocess["size"], int) else preprocess["size"][0]
    return CLIP(model, tokenizer, name=name, size=size, mean=tuple(preprocess["mean"]), std=tuple(preprocess["std"]))


@lru_cache(maxsize=64)
def _cached_sha256(path: Path, _size: int, _modified: int) -> str:
    """Hash a file; its size and modification time are in the key of the cache, so that changes are noticed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
