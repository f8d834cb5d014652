"""A GPT over code indices: given the codes so far and a condition, the distribution of the next one.

minGPT's shape and parameter names, as the reference of stage 2 has them (Esser et al. 2021, arXiv 2012.09841,
section 3.2), or LLaMA's with 2-D rotary positions (LlamaGen, Sun et al. 2024, arXiv 2406.06525). Knows indices and
vectors; nothing about pictures, prompts or the grids that windows walk over.

Shapes: b batch, n codes, p tokens of the prefix, v vocabulary, w width, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.models.attention import attend


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a transformer. The fields from ``text_dim`` on describe a caption as its condition.

    A transformer that fills holes has ``prefix_codes = grid²``, the picture's codes as far as they are known and
    ``mask_code`` elsewhere, read after the caption where there is one; :meth:`filling` makes such a config.
    """

    vocab_size: int = 1024
    block_size: int = 256  # tokens in all, the prefix included
    layers: int = 6
    heads: int = 6
    width: int = 288
    dropout: float = 0.0
    grid: int = 12  # side of the grid that it was trained on: of the window that walks over larger ones
    codes: int = 0  # how many of the vocabulary may be drawn, the first ones; 0 for all
    mask_code: int = -1  # the code that stands for "unknown" in a condition; -1 for a transformer without
    prefix_codes: int = 0  # codes before the first: 1 for a start or a class, grid² for another picture's
    patch: int = 1  # so many rows and columns of the condition's codes are read as one token
    classes: int = 0  # class labels: read as codes where there are prefix_codes, else with vectors of their own
    class_names: tuple[str, ...] = ()
    n_unmasked: int = 0  # so many first tokens see each other both ways
    learned_positions: bool = True
    rotary: bool = False  # 2-D: half of each head turned by the row, half by the column (arXiv 2104.09864)
    llama: bool = False  # RMS norms, gated MLP and no biases (arXiv 2302.13971)
    hidden: int = 0  # width of the MLP; 0 for four times the width
    tied: bool = False  # the head is the table of codes
    text_dim: int = 0  # of a caption's embedding; 0 for a transformer without captions
    text_tokens: int = 2  # tokens made from that embedding
    word_dim: int = 0  # of a word piece's embedding
    words: int = 0  # word pieces that are read
    styles: tuple[str, ...] = ()  # names of styles; the first stands for "any", "" for one that is not to be drawn

    @property
    def prefix(self) -> int:
        """Tokens before the first code."""
        return self.caption_tokens + self.prefix_codes // self.patch**2 + self.has_class_embedding

    @property
    def caption_tokens(self) -> int:
        """Tokens of a caption."""
        return (1 if self.styles else 0) + (self.text_tokens if self.text_dim else 0) + self.words

    @property
    def candidate_styles(self) -> list[int]:
        """Indices of the styles that drafts take in turn."""
        return [i for i, name in enumerate(self.styles) if name]

    @property
    def has_class_embedding(self) -> bool:
        """Whether classes have vectors of their own, and one for "no class" after them."""
        return self.classes > 0 and not self.prefix_codes

    @property
    def spatial(self) -> bool:
        """Whether the condition lies on the same grid as the codes."""
        return self.prefix_codes > 1

    @property
    def num_codes(self) -> int:
        """How many codes may be drawn."""
        return self.codes or self.vocab_size

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def for_infilling(cls, codes: int, grid: int, patch: int = 1, **fields: Any) -> GPTConfig:
        """A transformer over ``codes`` codes whose condition is the grid itself, a mask code where it is unknown.

        The mask code is the one after the last; the whole prefix sees both ways.
        """
        if grid % patch:
            raise ValueError(f"a grid of {grid} can't be read in patches of {patch}")
        config = cls(
            vocab_size=codes + 1, codes=codes, mask_code=codes, grid=grid, patch=patch, prefix_codes=grid * grid,
            **fields,
        )  # fmt: skip
        return replace(config, n_unmasked=config.prefix, block_size=config.prefix + grid * grid)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GPTConfig:
        """From what :meth:`to_dict` gave, after a trip through JSON; an unknown field is an error."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields {unknown} in a transformer's config; known are {sorted(known)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


class CaptionEmbedding(NamedTuple):
    """A caption as the transformer reads it."""

    text: Tensor  # (b, text_dim) unit embedding of the whole
    words: Tensor  # (b, words, word_dim) embeddings of its word pieces, zeros after the last
    style: Tensor  # (b,) index into the config's styles, 0 for any


class KVCache:
    """Keys and values of the first tokens of a sequence, for every layer: (layers, 2, b, heads, capacity, d).

    Tokens beyond the capacity are read and forgotten: the next reading gives them again.
    """

    def __init__(self, store: Tensor, length: int = 0) -> None:
        self.store, self.length = store, length

    @property
    def capacity(self) -> int:
        return self.store.shape[4]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all that was read and of the new tokens (b, heads, n, d), kept as far as they fit."""
        start, stop = self.length, min(self.length + key.shape[2], self.capacity)
        kept = self.store[layer]
        kept[0, :, :, start:stop] = key[:, :, : stop - start]
        kept[1, :, :, start:stop] = value[:, :, : stop - start]
        if stop == start + key.shape[2]:
            return kept[0, :, :, :stop], kept[1, :, :, :stop]
        return torch.cat([kept[0, :, :, :start], key], 2), torch.cat([kept[1, :, :, :start], value], 2)

    def fork(self, capacity: int) -> KVCache:
        """A cache that begins with what this one holds; one that could keep no more shares it."""
        full = self.store[:, :, :, :, : self.length]
        if capacity <= self.length:
            return KVCache(full, self.length)
        store = self.store.new_empty(*self.store.shape[:4], capacity, self.store.shape[5])
        store[:, :, :, :, : self.length] = full
        return KVCache(store, self.length)


class SequenceChunk(NamedTuple):
    """The next tokens of a sequence: prefix (b, p, w), then codes (b, n), after what its cache holds."""

    codes: Tensor
    prefix: Tensor | None = None
    cache: KVCache | None = None


class ChunkSpan(NamedTuple):
    """Where a sequence's tokens stand in a pass, and what they may see: None for all that came before."""

    tokens: slice
    cache: KVCache | None
    mask: Tensor | None


@lru_cache(maxsize=8)
def rotary_cos_sin(config: GPTConfig, device: torch.device) -> Tensor:
    """Cosine and sine (block, d/2, 2) by which each position's pairs of numbers are turned.

    A condition on the same grid turns as the codes do, a patch of it as its middle. A class's own token has zeros,
    as LlamaGen trained it; other prefixes are not turned.
    """
    quarter = config.width // config.heads // 4
    speed = 10000.0 ** (-torch.arange(quarter, device=device) / quarter)

    def turned(patch: int) -> Tensor:
        angle = (torch.arange(0, config.grid, patch, device=device)[:, None] + (patch - 1) / 2) * speed
        rows = angle[:, None].expand(-1, len(angle), -1)
        grid = torch.cat([rows, rows.transpose(0, 1)], 2).flatten(0, 1)
        return torch.stack([grid.cos(), grid.sin()], 2)

    condition = turned(config.patch) if config.spatial else turned(1)[:0]
    still = condition.new_tensor([0.0 if config.has_class_embedding else 1.0, 0.0])
    return torch.cat([still.expand(config.prefix - len(condition), 2 * quarter, 2), condition, turned(1)])


def apply_rotary_emb(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring numbers of x (b, heads, n, d) as pairs by angles (n, d/2, 2)."""
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = angles.to(x.dtype).unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        w, bias = config.width, not config.llama
        self.key, self.query = nn.Linear(w, w, bias), nn.Linear(w, w, bias)
        self.value, self.proj = nn.Linear(w, w, bias), nn.Linear(w, w, bias)

    def forward(
        self, x: Tensor, parts: Sequence[ChunkSpan], layer: int, angles: Tensor | None, ends: list[int]
    ) -> Tensor:
        """x (b, N, w), every part attending to itself and its cache; with ``ends``, only those tokens ask."""
        asking = x[:, ends] if ends else x
        q, k, v = (
            f(y).view(len(x), -1, self.heads, x.shape[2] // self.heads).transpose(1, 2)
            for f, y in ((self.query, asking), (self.key, x), (self.value, x))
        )
        if angles is not None:
            q, k = apply_rotary_emb(q, angles[ends] if ends else angles), apply_rotary_emb(k, angles)
        out = []
        for i, part in enumerate(parts):
            query = q[:, :, i : i + 1] if ends else q[:, :, part.tokens]
            key, value = k[:, :, part.tokens], v[:, :, part.tokens]
            if part.cache is not None:
                key, value = part.cache.extend(layer, key, value)
            mask = None if ends else part.mask
            # one token sees all that came before; several need the causal mask
            causal = mask is None and query.shape[2] > 1
            dropout = self.dropout if self.training else 0.0
            out.append(attend(query, key, value, mask, dropout, causal))
        return self.proj(torch.cat(out, 2).transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    """Shazeer 2020, arXiv 2002.05202."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def build_norm(config: GPTConfig) -> nn.Module:
    return nn.RMSNorm(config.width, eps=1e-5) if config.llama else nn.LayerNorm(config.width)


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1, self.ln2 = build_norm(config), build_norm(config)
        self.attn = CausalSelfAttention(config)
        width, hidden = config.width, config.hidden or 4 * config.width
        plain = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mlp = GatedMLP(width, hidden) if config.llama else plain
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, parts: Sequence[ChunkSpan], layer: int, angles: Tensor | None, ends: list[int]
    ) -> Tensor:
        y = self.drop(self.attn(self.ln1(x), parts, layer, angles, ends))
        x = (x[:, ends] if ends else x) + y
        return x + self.drop(self.mlp(self.ln2(x)))


class GPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        if config.learned_positions:
            self.pos_emb = nn.Parameter(torch.zeros(1, config.block_size, config.width))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = build_norm(config)
        if not config.tied:
            self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.has_class_embedding:
            self.class_emb = nn.Embedding(config.classes + 1, config.width)
        if config.text_dim:
            self.text_proj = nn.Linear(config.text_dim, config.text_tokens * config.width)
            if config.words:
                self.word_proj = nn.Linear(config.word_dim, config.width)
            if config.styles:
                self.style_emb = nn.Embedding(len(config.styles), config.width)
            self.no_caption = nn.Parameter(torch.zeros(1, config.caption_tokens, config.width))
        if config.patch > 1:
            self.patch_proj = nn.Linear(config.patch**2 * config.width, config.width)
        self.apply(init_weights)

    def prefix(self, caption: CaptionEmbedding, dropped: Tensor | None = None) -> Tensor:
        """A caption -> its tokens (b, c, w); where ``dropped`` (b,) is true, those of "no caption"."""
        b, c = len(caption.text), self.config
        parts = [self.style_emb(caption.style)[:, None]] if c.styles else []
        parts.append(self.text_proj(caption.text).view(b, c.text_tokens, c.width))
        if c.words:
            parts.append(self.word_proj(caption.words))
        tokens = torch.cat(parts, 1)
        if dropped is None:
            return tokens
        return torch.where(dropped[:, None, None], self.no_caption, tokens)

    def embed_prefix_codes(self, codes: Tensor) -> Tensor:
        """A start code, a class read as a code, or another picture's codes (b, p) -> their tokens (b, p/patch², w).

        They stand after a caption's tokens where the transformer reads both.
        """
        tokens: Tensor = self.tok_emb(codes)
        if (patch := self.config.patch) > 1:
            side = self.config.grid // patch
            tokens = tokens.view(len(codes), side, patch, side, patch, -1).transpose(2, 3)
            tokens = self.patch_proj(tokens.flatten(3).flatten(1, 2))
        return tokens

    def embed_class(self, label: Tensor) -> Tensor:
        """Labels (b,) -> their tokens (b, 1, w); the label ``classes`` stands for "no class" where there is one."""
        return (self.class_emb if self.config.has_class_embedding else self.tok_emb)(label)[:, None]

    def cache(self, batch: int, capacity: int | None = None) -> KVCache:
        """An empty cache for sequences of a batch; it keeps the first ``capacity`` tokens, all by default."""
        c, like = self.config, self.tok_emb.weight
        capacity = c.block_size if capacity is None else capacity
        return KVCache(like.new_empty(c.layers, 2, batch, c.heads, capacity, c.width // c.heads))

    def forward(
        self, codes: Tensor, prefix: Tensor | None = None, cache: KVCache | None = None, skip: int = 0
    ) -> Tensor:
        """Logits (b, p + n - skip, v): the one at position i predicts what follows token skip + i.

        codes (b, n) of int64; prefix (b, p, w) from one of the ``prefix`` methods. With a cache, they go on from
        what it holds, and the prefix is given once.
        """
        return self._pass([SequenceChunk(codes, prefix, cache)], only_ends=False, skip=skip)

    def read(self, readings: Sequence[SequenceChunk]) -> Tensor:
        """Logits (b, s, v) of what follows the last token of each of s sequences, all of them read in one pass.

        They may differ in length and place: only attention treats them apart.
        """
        return self._pass(readings, only_ends=True)

    def _pass(self, readings: Sequence[SequenceChunk], only_ends: bool, skip: int = 0) -> Tensor:
        tokens, places, parts, at = [], [], [], 0
        for reading in readings:
            x = self.tok_emb(reading.codes)
            if reading.prefix is not None:
                x = torch.cat([reading.prefix.to(x), x], 1)
            start = reading.cache.length if reading.cache is not None else 0
            stop = start + x.shape[1]
            if stop > self.config.block_size:
                raise ValueError(f"{stop} tokens are more than the block of {self.config.block_size}")
            if reading.cache is not None and stop < self.config.n_unmasked:
                raise ValueError(f"the first {self.config.n_unmasked} tokens see each other: read them at once")
            tokens.append(x)
            places.append(torch.arange(start, stop, device=x.device))
            parts.append(ChunkSpan(slice(at, at + x.shape[1]), reading.cache, self._mask(start, stop, x.device)))
            at += x.shape[1]
        x, place = torch.cat(tokens, 1), torch.cat(places)
        if self.config.learned_positions:
            x = x + self.pos_emb[:, place]
        angles = rotary_cos_sin(self.config, x.device)[place] if self.config.rotary else None
        x = self.drop(x)
        ends = [part.tokens.stop - 1 for part in parts] if only_ends else []
        for layer, block in enumerate(self.blocks):
            # of the last layer's answers only those that predict are needed, but everybody's keys and values
            x = block(x, parts, layer, angles, ends if layer == self.config.layers - 1 else [])
        for part in parts:
            if part.cache is not None:
                part.cache.length = min(part.cache.length + part.tokens.stop - part.tokens.start, part.cache.capacity)
        x = self.ln_f(x[:, skip:])
        return F.linear(x, self.tok_emb.weight) if self.config.tied else self.head(x)

    def _mask(self, start: int, stop: int, device: torch.device) -> Tensor | None:
        """What tokens from start to stop see of the first stop ones; None where plain causality says it."""
        n_unmasked = min(self.config.n_unmasked, stop)
        if stop - start == 1 or (start == 0 and n_unmasked < 2):
            return None
        mask = torch.ones(stop - start, stop, dtype=torch.bool, device=device).tril(start)
        mask[: max(0, n_unmasked - start), :n_unmasked] = True
        return mask


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class PackedLinear(nn.Module):
    """A linear layer whose weight lies as oneDNN reads it fastest."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 64)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def pack_linear_layers(gpt: GPT) -> GPT:
    """The same transformer, ready to draw: in fp32 on a CPU its matrices lie as the processor reads them fastest.

    A code drawn alone takes as long as reading all weights. torch gives fp32 to MKL, which takes half as long again
    for it as oneDNN, and on AMD's processors twice as long for many tokens. Elsewhere the transformer itself.
    """
    weight = gpt.tok_emb.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not _has_onednn():
        return gpt
    ready = deepcopy(gpt, {id(p): p for p in gpt.parameters()})  # shares what is not packed
    for module in list(ready.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child))
    return ready.eval()


def _has_onednn() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch._C._has_mkldnn and all(hasattr(torch.ops.mkldnn, name) for name in names)
