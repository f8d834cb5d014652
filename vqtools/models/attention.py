"""Attention where gradients pass through it on a CPU in half precision, and CLIP's without needless copies.

Knows tensors; nothing about pictures or codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX_PLAIN_NUMEL = 2**25  # numbers in the matrix of weights, up to which it may be kept for the way back: 64 MB


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """softmax(q kᵀ / √d) v over (b, heads, n, d); mask: True where a query may look. Vaswani et al. 2017, §3.2.1.

    torch's fused attention, save for gradients in half precision on a CPU: there its way back takes several times as
    long as three plain steps (144 codes, 6 heads of 48, 32 at once: 79 ms against 19).
    """
    tangled = q.requires_grad or k.requires_grad or v.requires_grad
    plain = q.device.type == "cpu" and q.dtype != torch.float32 and tangled and torch.is_grad_enabled()
    if not plain or q.shape[:-1].numel() * k.shape[-2] > _MAX_PLAIN_NUMEL:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else weights + mask
    return F.dropout(weights.softmax(-1), dropout) @ v


class SelfAttention(nn.Module):
    """An :class:`torch.nn.MultiheadAttention` of a frozen tower that looks at itself: its weights, the same function.

    torch's own swaps batch and sequence before its first layer, and in half precision on a CPU that layer then copies
    all its weights once for every patch: a ViT-B/32's step takes three times as long.
    """

    def __init__(self, of: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.in_proj_weight, self.in_proj_bias = of.num_heads, of.in_proj_weight, of.in_proj_bias
        self.out_proj = of.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(b, n, width) three times the same -> the same shape, and no weights, as torch's own."""
        b, n, width = query.shape
        packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = packed.view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.out_proj(attend(q, k, v, attn_mask).transpose(1, 2).reshape(b, n, width)), None


def replace_self_attention(tower: nn.Module) -> None:
    """Put :class:`SelfAttention` for torch's attention in every block of an open_clip picture tower, in place."""
    for block in tower.modules():
        found = getattr(block, "attn", None)
        looks_at_itself = hasattr(block, "ln_1") and not hasattr(block, "ln_1_kv")  # open_clip's ResidualAttentionBlock
        if type(found) is nn.MultiheadAttention and looks_at_itself and _is_replaceable(found):
            block.attn = SelfAttention(found)


def _is_replaceable(found: nn.MultiheadAttention) -> bool:
    """Whether it has nothing that :class:`SelfAttention` lacks."""
    ours = found.in_proj_weight is not None and found.in_proj_bias is not None and found.bias_k is None
    return found.batch_first and ours and not found.add_zero_attn and not found.dropout
