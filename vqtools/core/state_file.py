"""Job states as safetensors files: nested dicts and lists of tensors, numbers, strings and None.

Knows the format of the file; nothing about what a state means. Nothing is pickled: the tensors lie in the file under
their path in the tree, and the tree is JSON in the file's metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtools.core.errors import UserError, shorten_error
from vqtools.core.files import atomic_write

if TYPE_CHECKING:
    import torch

_FORMAT = "vqtools-state-1"


def save_state(path: str | Path, state: dict[str, Any]) -> Path:
    """Write a nested state of tensors, numbers, strings and None to one safetensors file, atomically.

    Returns the path. Raises TypeError for a value of another type.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_pack_tree(state, "", tensors))
    path = Path(path)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"format": _FORMAT, "state": tree})
    return path


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a file of :func:`save_state`; the tensors are on the CPU.

    Raises UserError for a file that is missing, broken, or not a state.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"{path} is not there")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise UserError(f"{path} is not a saved run of vqtools")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state = _unpack_tree(json.loads(metadata["state"]), tensors)
    except UserError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is broken and cannot be resumed ({shorten_error(error)})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a saved run of vqtools")
    return state


def _pack_tree(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert a tree to JSON values; {"$": kind, ...} represents what JSON lacks. Tensors go to ``tensors``."""
    import torch

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        # a copy, because safetensors refuses tensors that share a storage
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$": "tensor", "name": name}
    if isinstance(value, list | tuple):
        items = [_pack_tree(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != "$" for key in value):
            return {key: _pack_tree(item, f"{name}.{key}", tensors) for key, item in value.items()}
        if all(isinstance(key, int | str) and not isinstance(key, bool) for key in value):
            pairs = [[key, _pack_tree(item, f"{name}.{key!r}", tensors)] for key, item in value.items()]
            return {"$": "dict", "items": pairs}
    raise TypeError(f"state{name} is a {type(value).__name__}; only tensors, numbers, strings and None are saved")


def _unpack_tree(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Invert :func:`_pack_tree`."""
    if isinstance(value, list):
        return [_unpack_tree(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind is None:
        return {key: _unpack_tree(item, tensors) for key, item in value.items()}
    if kind == "tensor":
        return tensors[value["name"]]
    if kind == "tuple":
        return tuple(_unpack_tree(item, tensors) for item in value["items"])
    if kind == "dict":
        return {key: _unpack_tree(item, tensors) for key, item in value["items"]}
    raise ValueError(f"unknown entry {kind!r}")
