"""Plain attention against torch's own, and the replaced attention of an image tower."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.models.attention import SelfAttention, attend, replace_self_attention


def three(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 7, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("masked", ["no", "causal", "true where it looks", "added"])
def test_plain_attention_in_half_precision_equals_the_definition(masked: str) -> None:
    """Checked in float64, where rounding is negligible."""
    mask = torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) < 0.7
    mask |= torch.eye(7, dtype=torch.bool)
    given = {
        "no": None,
        "causal": None,
        "true where it looks": mask,
        "added": torch.zeros(7, 7).masked_fill(~mask, -torch.inf).to(torch.float64),
    }[masked]
    ours, theirs = three(torch.float64), three(torch.float64)  # not fp32: taken by plain steps, as halves are
    a = attend(*ours, mask=given, causal=masked == "causal")
    b = F.scaled_dot_product_attention(*theirs, given, 0.0, masked == "causal")
    torch.testing.assert_close(a, b)
    a.square().sum().backward(), b.square().sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    assert "ScaledDot" not in type(a.grad_fn).__name__ and "ScaledDot" in type(b.grad_fn).__name__
    half = given.bfloat16() if masked == "added" and given is not None else given
    halves = attend(*three(torch.bfloat16), mask=half, causal=masked == "causal")
    torch.testing.assert_close(halves.double(), a, atol=0.03, rtol=0.03)


def test_large_matrices_and_fp32_use_the_fused_attention() -> None:
    assert "ScaledDot" in type(attend(*three(torch.float32)).grad_fn).__name__
    long = torch.zeros(1, 1, 6000, 1, dtype=torch.bfloat16, requires_grad=True)
    assert "ScaledDot" in type(attend(long, long, long).grad_fn).__name__


@pytest.mark.parametrize("masked", [False, True])
def test_a_replaced_attention_computes_the_same(masked: bool) -> None:
    from open_clip.transformer import ResidualAttentionBlock

    torch.manual_seed(0)
    block = ResidualAttentionBlock(32, 4).eval().requires_grad_(False)
    x = torch.randn(3, 5, 32)
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf) if masked else None
    before, names = block(x, attn_mask=mask), set(block.state_dict())
    replace_self_attention(block)
    assert isinstance(block.attn, SelfAttention) and set(block.state_dict()) == names
    torch.testing.assert_close(block(x, attn_mask=mask), before, atol=1e-6, rtol=1e-5)


def test_other_kinds_of_attention_are_not_replaced() -> None:
    from open_clip.transformer import ResidualAttentionBlock

    cross = ResidualAttentionBlock(32, 4, is_cross_attention=True)
    replace_self_attention(cross)
    assert type(cross.attn) is nn.MultiheadAttention
