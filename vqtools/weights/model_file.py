"""Our own files of weights: one safetensors a model, its config in the header; a CLIP is open_clip's folder.

Knows files and networks; nothing about prompts or training. Files from elsewhere are hostile until proved
otherwise: no pickle is opened here, and a header that does not fit its tensors is an error that names them.
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
SCALE_SUFFIX = ".int8_scale"  # what a row of an int8 matrix is multiplied by


def save_model(path: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], **about: Any) -> None:
    """Write a model atomically. kind: "vqgan", "transformer" …; about: what a reader should know of it."""
    header = json.dumps({"kind": kind, "config": config, "about": about}, sort_keys=True)
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"vqtools": header})
        temporary.chmod(0o644)  # safetensors leaves a file that only its owner can read


def quantize_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with a scale for each row beside them, all else in fp16; half the size of fp16 alone.

    A number comes back to within 1/254 of the largest of its row. The loaders undo it.
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
    """What :func:`quantize_int8` or plain fp16 holds, in fp32."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name + SCALE_SUFFIX in tensors:
            out[name] = tensor.float() * tensors[name + SCALE_SUFFIX].float()[:, None]
        elif not name.endswith(SCALE_SUFFIX):
            out[name] = tensor.float() if tensor.is_floating_point() else tensor
    return out


def read_header(path: Path) -> dict[str, Any]:
    """Kind, config and about of one of our files; UserError where it is none."""
    if not path.is_file():
        raise UserError(f"{path} is not there")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["vqtools"])
    except (SafetensorError, OSError, KeyError, ValueError):
        raise UserError(f"{path} is no model of vqtools; expected a .safetensors file that vqtools wrote") from None
    if not isinstance(header, dict) or not {"kind", "config"} <= set(header):
        raise UserError(f"{path} has a header that vqtools does not know")
    return header


def read_kind(path: Path) -> str:
    """What a file holds, "" where it is none of ours."""
    try:
        return str(read_header(path)["kind"])
    except UserError:
        return ""


def read_vqgan(path: Path) -> VQGAN:
    """A VQGAN in fp32, frozen and ready to draw."""
    return _read_module(path, "vqgan", lambda config: VQGAN(VQGANConfig.from_dict(config)))


def read_condition_vqgan(path: Path) -> VQGAN:
    """The VQGAN of label maps that a transformer with a segmentation as its condition reads."""
    return _read_module(path, "condition", lambda config: VQGAN(VQGANConfig.from_dict(config)))


def read_transformer(path: Path) -> GPT:
    """A transformer in fp32, frozen and ready to draw."""
    return _read_module(path, "transformer", lambda config: GPT(GPTConfig.from_dict(config)))


def read_perceptual(path: Path) -> PerceptualDistance:
    """The perceptual distance that ships with the starter."""
    return _read_module(path, "perceptual", lambda config: PerceptualDistance())


def _read_module(path: Path, kind: str, build: Callable[[Any], ModuleT]) -> ModuleT:
    header = read_header(path)
    if header["kind"] != kind:
        raise UserError(f"{path} holds a {header['kind']}; expected a {kind}")
    try:
        with torch.device("meta"):  # no time for initial values that the file replaces
            model = build(header["config"])
        model.load_state_dict(dequantize(load_file(path)), assign=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path} does not fit its own description: {' '.join(str(error).split())[:300]}") from None
    return model.eval().requires_grad_(False)


def read_clip_folder(folder: Path) -> CLIP:
    """A CLIP of our own: open_clip's folder of config, weights and the word pieces' tokenizer.json."""
    import open_clip
    from tokenizers import Tokenizer

    for name in ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no CLIP of vqtools: {name} is missing")
    model = open_clip.create_model(f"local-dir:{folder}")
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def tokenize(texts: list[str]) -> Tensor:
        return torch.tensor([encoded.ids for encoded in pieces.encode_batch(texts)])

    clip = _wrap_open_clip(model, tokenize, folder.name)
    fold_batch_norms(clip.model)
    return clip.requires_grad_(False)


def load_open_clip(name: str) -> CLIP:
    """A public CLIP by open_clip's NAME/TAG, such as "ViT-B-32-quickgelu/openai".

    From the file that `vqtools weights fetch` brought and checked; without it open_clip downloads it once.
    """
    import open_clip

    architecture, _, tag = name.partition("/")
    if (architecture, tag) not in open_clip.list_pretrained():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UserError(
            f"no CLIP {name!r}: "
            + (f"{architecture} has the tags {', '.join(tags)}" if tags else "expected starter or open_clip's NAME/TAG")
        )
    fetched = WeightsRecord(name, "clip").place
    try:
        if fetched.is_file():
            prepare = open_clip.get_pretrained_cfg(architecture, tag)
            model = open_clip.create_model(architecture, pretrained=str(fetched), force_preprocess_cfg=prepare)
        else:
            model = open_clip.create_model(architecture, pretrained=tag)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} could not be fetched: {' '.join(str(error).split())[:200]}") from None
    return _wrap_open_clip(model, open_clip.get_tokenizer(architecture), name)


def _wrap_open_clip(model: Any, tokenizer: Any, name: str) -> CLIP:
    prepare = model.visual.preprocess_cfg
    size = prepare["size"] if isinstance(prepare["size"], int) else prepare["size"][0]
    return CLIP(model, tokenizer, name=name, size=size, mean=tuple(prepare["mean"]), std=tuple(prepare["std"]))


@lru_cache(maxsize=64)
def _cached_sha256(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file; of a folder, that of its weights."""
    path = path / "open_clip_model.safetensors" if path.is_dir() else path
    stat = path.stat()
    return _cached_sha256(path, stat.st_size, stat.st_mtime_ns)
