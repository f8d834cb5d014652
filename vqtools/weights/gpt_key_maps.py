"""Key maps of transformers: minGPT of taming-transformers, and LlamaGen.

Knows the parameter names of both; opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.models.gpt import GPTConfig

_LLAMAGEN_NAMES = {
    "cls_embedding.embedding_table": "class_emb",
    "tok_embeddings": "tok_emb",
    "norm": "ln_f",
    "output": "head",
    "attention.wo": "attn.proj",
    "feed_forward.w1": "mlp.gate",
    "feed_forward.w3": "mlp.up",
    "feed_forward.w2": "mlp.down",
    "attention_norm": "ln1",
    "ffn_norm": "ln2",
}


def from_minigpt(state: Mapping[str, Tensor], heads: int, **condition: Any) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Convert the tensors of a transformer of taming-transformers (keys without ``transformer.``).

    heads: from its YAML file, because the shapes do not determine them.
    condition: further fields of the config that the shapes do not determine, such as ``classes`` and ``prefix_codes``
        (1 for a start code or a class, the number of the grid's cells for another image's codes).

    Returns config and tensors. Raises UserError if a tensor is missing.
    """
    tensors = {name: value for name, value in state.items() if not name.endswith("attn.mask")}
    try:
        vocab_size, width = tensors["tok_emb.weight"].shape
        block = tensors["pos_emb"].shape[1]
    except KeyError as error:
        raise UserError(f"the checkpoint has no {error}; expected a transformer of taming-transformers") from None
    prefix = condition.setdefault("prefix_codes", 1)
    condition.setdefault("grid", round((block if prefix == 1 else block - prefix) ** 0.5))
    layers = _count_layers(tensors, "blocks")
    config = GPTConfig(vocab_size, block, layers=layers, heads=heads, width=width, **condition)
    return config, tensors


def from_llamagen(state: Mapping[str, Tensor], heads: int, grid: int) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Convert the tensors of a class-conditional transformer of LlamaGen. Its class embedding ends with "no class".

    heads, grid: from its configuration, because the shapes do not determine them.

    Returns config and tensors. Raises UserError if a tensor is missing or unknown.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, parameter = name.rpartition(".")
        prefix = ""
        if module.startswith("layers."):
            _, layer, module = module.split(".", 2)
            if module == "attention.wqkv":
                for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    tensors[f"blocks.{layer}.attn.{part}.{parameter}"] = rows.clone()
                continue
            prefix = f"blocks.{layer}."
        if module not in _LLAMAGEN_NAMES:
            raise UserError(f"the checkpoint has a tensor {name!r}; expected a class-conditional GPT of LlamaGen")
        tensors[f"{prefix}{_LLAMAGEN_NAMES[module]}.{parameter}"] = value
    try:
        vocab_size, width = tensors["tok_emb.weight"].shape
        classes = len(tensors["class_emb.weight"]) - 1
        hidden = len(tensors["blocks.0.mlp.gate.weight"])
    except KeyError as error:
        raise UserError(f"the checkpoint has no {error}; expected a class-conditional GPT of LlamaGen") from None
    config = GPTConfig(
        vocab_size=vocab_size,
        block_size=grid * grid + 1,
        layers=_count_layers(tensors, "blocks"),
        heads=heads,
        width=width,
        grid=grid,
        classes=classes,
        learned_positions=False,
        rotary=True,
        llama=True,
        hidden=hidden,
    )
    return config, tensors


def _count_layers(tensors: Mapping[str, Tensor], name: str) -> int:
    """Return the number of modules in the list ``name``."""
    return 1 + max((int(key.split(".")[1]) for key in tensors if key.startswith(name + ".")), default=-1)
