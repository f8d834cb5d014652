"""A GPT over code indices: given the codes so far and a condition, the distribution of the next one.

minGPT's shape and parameter names, as the reference of stage 2 has them (Esser et al. 2021, arXiv 2012.09841,
section 3.2). Knows indices and vectors; nothing about pictures, prompts or grids.

Shapes: b batch, n codes, p tokens of the prefix, v vocabulary, w width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a transformer. The fields from ``text_dim`` on describe a caption as its condition."""

    vocab_size: int = 1024
    block_size: int = 256  # tokens in all, the prefix included
    layers: int = 6
    heads: int = 6
    width: int = 288
    dropout: float = 0.0
    grid: int = 12  # side of the grid that it was trained on
    text_dim: int = 0  # of a caption's embedding; 0 for a transformer without captions
    text_tokens: int = 2  # tokens made from that embedding
    word_dim: int = 0  # of a word piece's embedding
    words: int = 0  # word pieces that are read
    styles: tuple[str, ...] = ()  # names of styles; the first stands for "any"

    @property
    def prefix(self) -> int:
        """Tokens before the first code."""
        return (1 if self.styles else 0) + (self.text_tokens if self.text_dim else 0) + self.words

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GPTConfig:
        """From what :meth:`to_dict` gave, after a trip through JSON; an unknown field is an error."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields {unknown} in a transformer's config; known are {sorted(known)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


class Caption(NamedTuple):
    """A caption as the transformer reads it."""

    text: Tensor  # (b, text_dim) unit embedding of the whole
    words: Tensor  # (b, words, word_dim) embeddings of its word pieces, zeros after the last
    style: Tensor  # (b,) index into the config's styles, 0 for any


class Cache:
    """Keys and values (b, heads, n, w/heads) of every layer for what was read so far."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer < len(self.layers):
            before = self.layers[layer]
            self.layers[layer] = (torch.cat([before[0], key], 2), torch.cat([before[1], value], 2))
        else:
            self.layers.append((key, value))
        return self.layers[layer]


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.key = nn.Linear(config.width, config.width)
        self.query = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, layer: int, cache: Cache | None) -> Tensor:
        b, n, w = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        fresh = cache is None or not cache.length or layer >= len(cache.layers)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        # one new token sees all that came before; several at once need the causal mask
        if not fresh and n > 1:
            raise ValueError("with a filled cache the tokens come one at a time")
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, is_causal=fresh, dropout_p=dropout)
        return self.proj(out.transpose(1, 2).reshape(b, n, w))


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width), nn.GELU(), nn.Linear(4 * config.width, config.width)
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layer: int, cache: Cache | None) -> Tensor:
        x = x + self.drop(self.attn(self.ln1(x), layer, cache))
        return x + self.drop(self.mlp(self.ln2(x)))


class GPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        self.pos_emb = nn.Parameter(torch.zeros(1, config.block_size, config.width))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.text_dim:
            self.text_proj = nn.Linear(config.text_dim, config.text_tokens * config.width)
            self.word_proj = nn.Linear(config.word_dim, config.width)
            self.style_emb = nn.Embedding(len(config.styles), config.width)
            self.no_caption = nn.Parameter(torch.zeros(1, config.prefix, config.width))
        self.apply(initialise)

    def prefix(self, caption: Caption, dropped: Tensor | None = None) -> Tensor:
        """A caption -> its tokens (b, p, w); where ``dropped`` (b,) is true, those of "no caption"."""
        b, c = len(caption.text), self.config
        text = self.text_proj(caption.text).view(b, c.text_tokens, c.width)
        tokens = torch.cat([self.style_emb(caption.style)[:, None], text, self.word_proj(caption.words)], 1)
        if dropped is None:
            return tokens
        return torch.where(dropped[:, None, None], self.no_caption, tokens)

    def forward(self, codes: Tensor, prefix: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits (b, p + n, v): the one at position i predicts what follows token i.

        codes (b, n) of int64; prefix (b, p, w) from :meth:`prefix`. With a cache, codes (b, 1) go on from what it
        holds, and the prefix is read by the first call alone.
        """
        x = self.tok_emb(codes)
        if prefix is not None:
            x = torch.cat([prefix.to(x), x], 1)
        start = cache.length if cache is not None else 0
        if start + x.shape[1] > self.config.block_size:
            raise ValueError(f"{start + x.shape[1]} tokens are more than the block of {self.config.block_size}")
        x = self.drop(x + self.pos_emb[:, start : start + x.shape[1]])
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache)
        return self.head(self.ln_f(x))


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
