"""Attention: its cost, the weights it computes, and the tokenisations that shorten the sequence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.illustrated import attention
from vqtools.illustrated.attention import (
    IGPT_TOKENS,
    AttentionFigure,
    attention_pairs,
    compare_tokenisations,
    extrapolate_seconds,
    format_number,
    self_attention,
    sequence_costs,
    time_attention,
)
from vqtools.models.gpt import GPT, GPTConfig
from vqtools.models.vqgan import VQGAN


def test_the_number_of_weights_grows_with_the_square_of_the_length() -> None:
    assert [attention_pairs(n) for n in (1, 144, 288)] == [1, 20736, 4 * 20736]
    assert attention_pairs(IGPT_TOKENS) == 150_528**2 == 22_658_678_784
    assert extrapolate_seconds(4000, (1000, 2000), [0.25, 0.75]) == 3.0


def test_large_numbers_are_written_in_words() -> None:
    assert format_number(22_658_678_784) == "22.7 billion" and format_number(1_234_567) == "1.23 million"
    assert format_number(20736) == "20,736"


def test_the_timed_function_computes_scaled_dot_product_attention() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    expected = F.scaled_dot_product_attention(x[None], x[None], x[None])[0]
    assert torch.allclose(self_attention(x), expected, atol=1e-6)
    short, long = time_attention((64, 2048))
    assert 0 < short < long


def test_tokenisations_have_the_expected_lengths_and_pictures(oranges: Tensor, vqgan: VQGAN) -> None:
    raw, igpt, vit, codes = compare_tokenisations(oranges, vqgan)
    assert [item.tokens for item in (raw, igpt, vit, codes)] == [3 * 96 * 96, 1024, 36, 144]
    assert (raw.tokens * raw.bits, vit.tokens * vit.bits) == (96 * 96 * 24, 96 * 96 * 24)
    assert len(torch.unique(igpt.picture.flatten(1), dim=1).T) <= 512
    assert igpt.cost // codes.cost == 50
    downscaled = F.interpolate(oranges, size=(32, 32), mode="area")[0]
    assert float((igpt.picture - downscaled).abs().mean()) < 0.02


def test_attention_weights_reproduce_the_output_of_the_first_layer(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    codes = vqgan.encode(oranges).view(1, -1)
    weights = attention.attention_weights(gpt, codes, gpt.no_caption)
    n = gpt.config.prefix_length + 144
    assert weights.shape == (gpt.config.layers, gpt.config.heads, n, n)
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    assert float(weights.triu(1).abs().max()) == 0  # no weight on later tokens
    recorded: list[Tensor] = []
    block = gpt.blocks[0]
    hook = block.attn.register_forward_hook(lambda _module, inputs, output: recorded.extend((inputs[0], output)))
    gpt(codes, gpt.no_caption)
    hook.remove()
    value = block.attn.value(recorded[0]).view(1, n, gpt.config.heads, -1).transpose(1, 2)
    output = block.attn.proj((weights[0] @ value[0]).transpose(0, 1).flatten(1))
    assert torch.allclose(output, recorded[1][0], atol=1e-4)


def test_a_cell_attends_only_to_earlier_cells(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    figure = AttentionFigure(oranges, vqgan, gpt)
    weights = figure.weights_for(5, 7)
    assert weights.shape[2:] == (12, 12)
    assert float(weights[:, :, 5, 7:].abs().max()) == 0 and float(weights[:, :, 6:].abs().max()) == 0
    assert float(weights.sum((2, 3)).max()) <= 1 + 1e-5 and float(weights[:, :, 5, 6].max()) > 0
    assert float(figure.mean_distance.min()) > 0 and float(figure.mean_distance.max()) < 12 * 1.42
    assert "<svg" in figure(0, 0).svg()  # the first code attends to the prefix alone


def test_a_transformer_with_rotary_positions_is_refused() -> None:
    rotary = GPT(GPTConfig(vocab_size=8, layers=1, heads=1, width=8, grid=2, prefix_codes=1, rotary=True))
    with pytest.raises(ValueError, match="rotary"):
        attention.attention_weights(rotary, torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 1, 8))


def test_the_figures_are_drawn(oranges: Tensor, vqgan: VQGAN) -> None:
    assert "<svg" in attention.attention_cost(longest=256).svg()
    assert "<svg" in sequence_costs(oranges, vqgan).svg()
