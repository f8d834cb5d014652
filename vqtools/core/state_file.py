"""TODO: what this module is.

Split from vqtools.jobs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtools.core.errors import UserError, shorten_error
from vqtools.core.files import atomic_write

if TYPE_CHECKING:
    import torch


def save_state(path: str | Path, state: dict[str, Any]) -> Path:
    """Write a nested state of tensors, numbers, strings and None to one safetensors file, atomically."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_pack_tree(state, "", tensors))
    path = Path(path)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "vqtools-state-1", "state": tree})
    return path


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what `save_state` wrote; tensors on the CPU. UserError for a file that is missing, broken or foreign."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"{path} is not there")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != "vqtools-state-1":
                raise UserError(f"{path} holds no saved run of vqtools")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state = _unpack_tree(json.loads(metadata["state"]), tensors)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is broken and cannot be resumed ({shorten_error(error)})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no saved run of vqtools")
    return state


def _pack_tree(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain JSON in which {"$": kind, ...} stands for what JSON has not; tensors are put aside under their path."""
    import torch

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        # a copy: parts of one storage may not share a file
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$": "tensor", "name": name}
    if isinstance(value, list | tuple):
        items = [_pack_tree(one, f"{name}.{index}", tensors) for index, one in enumerate(value)]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != "$" for key in value):
            return {key: _pack_tree(one, f"{name}.{key}", tensors) for key, one in value.items()}
        if all(isinstance(key, int | str) and not isinstance(key, bool) for key in value):
            return {
                "$": "dict",
                "items": [[key, _pack_tree(one, f"{name}.{key!r}", tensors)] for key, one in value.items()],
            }
    raise TypeError(f"state{name} is a {type(value).__name__}; only tensors, numbers, strings and None are saved")


def _unpack_tree(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack_tree(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind is None:
        return {key: _unpack_tree(one, tensors) for key, one in value.items()}
    if kind == "tensor":
        return tensors[value["name"]]
    if kind == "tuple":
        return tuple(_unpack_tree(one, tensors) for one in value["items"])
    if kind == "dict":
        return {key: _unpack_tree(one, tensors) for key, one in value["items"]}
    raise ValueError(f"unknown entry {kind!r}")
