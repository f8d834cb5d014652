"""Key maps of transformers against the key lists of public models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vqtools.core.errors import UserError
from vqtools.models.gpt import GPT
from vqtools.weights.gpt_key_maps import from_llamagen, from_minigpt

GOLDEN = Path(__file__).parents[1] / "golden"


def listed_shapes(name: str, start: str = "") -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a stored list."""
    lines = (GOLDEN / name).read_text().splitlines()
    shapes_by_key = {}
    for line in lines:
        key, _, text = line.partition(" ")
        if key.startswith(start) and not key.endswith("attn.mask"):
            shapes_by_key[key.removeprefix(start)] = tuple(
                int(n) for n in text[1 : text.index(")")].split(",") if n.strip()
            )
    return shapes_by_key


def test_the_public_models_have_exactly_the_listed_keys() -> None:
    with torch.device("meta"):
        empty = {name: torch.empty(shape) for name, shape in listed_shapes("llamagen_gpt_b_256.txt").items()}
        config, tensors = from_llamagen(empty, heads=12, grid=16)
        assert {k: v.shape for k, v in GPT(config).state_dict().items()} == {k: v.shape for k, v in tensors.items()}
        for name, fields in (("net2net_class.txt", {"classes": 1000}), ("net2net_seg.txt", {"prefix_codes": 256})):
            listed = listed_shapes(name, "transformer.")
            config, tensors = from_minigpt({k: torch.empty(v) for k, v in listed.items()}, heads=4, **fields)
            assert config.grid == 16
            assert {k: tuple(v.shape) for k, v in GPT(config).state_dict().items()} == listed


def test_a_checkpoint_without_a_transformer_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"tensor 'encoder\.weight'"):
        from_llamagen({"encoder.weight": torch.zeros(1)}, 4, 6)
    with pytest.raises(UserError, match=r"no 'tok_emb\.weight'"):
        from_minigpt({"encoder.weight": torch.zeros(1)}, 4)
