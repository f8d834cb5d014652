"""Scaled dot-product attention with fast paths for CPUs: gradients in half precision, and CLIP's image towers.

Works on tensors; knows nothing about images or codes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX_PLAIN_NUMEL = 2**25  # maximum size of the attention matrix that is kept for the backward pass: 64 MB


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """Compute softmax(q kᵀ / √d) v for q, k, v (b, heads, n, d). Vaswani et al. 2017, arXiv 1706.03762, eq. 1.

    mask: bool, True where a query may attend, or float, which is added to the logits.

    This is torch's fused attention, except for gradients in half precision on a CPU, where its backward pass is several
    times slower than separate operations (79 ms against 19 for 144 codes, 6 heads of 48 and a batch of 32).
    """
    needs_grad = q.requires_grad or k.requires_grad or v.requires_grad
    plain = q.device.type == "cpu" and q.dtype != torch.float32 and needs_grad and torch.is_grad_enabled()
    if not plain or q.shape[:-1].numel() * k.shape[-2] > _MAX_PLAIN_NUMEL:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else weights + mask
    return F.dropout(weights.softmax(-1), dropout) @ v


class SelfAttention(nn.Module):
    """Self-attention with the weights of a frozen :class:`torch.nn.MultiheadAttention`: the same function, but faster.

    torch's own module moves the batch behind the sequence before its first layer; in half precision on a CPU that layer
    then copies all its weights once per position, and a step through a ViT-B/32 takes three times as long.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, query: Tensor, *_key_and_value: Tensor, attn_mask: Tensor | None = None, **_options: Any
    ) -> tuple[Tensor, None]:
        """Attend within query (b, n, width). Takes the arguments of torch's module and returns (output, None)."""
        b, n, width = query.shape
        packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = packed.view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.out_proj(attend(q, k, v, attn_mask).transpose(1, 2).reshape(b, n, width)), None


def replace_self_attention(tower: nn.Module) -> None:
    """Replace torch's attention by :class:`SelfAttention` in every block of an open_clip image tower, in place."""
    for block in tower.modules():
        attention = getattr(block, "attn", None)
        # open_clip's ResidualAttentionBlock; with ln_1_kv it is cross-attention
        is_self_attention = hasattr(block, "ln_1") and not hasattr(block, "ln_1_kv")
        if type(attention) is nn.MultiheadAttention and is_self_attention and _is_replaceable(attention):
            block.attn = SelfAttention(attention)


def _is_replaceable(attention: nn.MultiheadAttention) -> bool:
    """Return whether the module uses no feature that :class:`SelfAttention` lacks."""
    has_projection = attention.in_proj_weight is not None and attention.in_proj_bias is not None
    is_plain = attention.bias_k is None and not attention.add_zero_attn and not attention.dropout
    return attention.batch_first and has_projection and is_plain
