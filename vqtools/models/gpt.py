"""A GPT over code indices: the distribution of the next code, given the codes before it and a condition.

The architecture and parameter names are those of minGPT, which the reference implementation uses for stage 2 (Esser et
al. 2021, arXiv 2012.09841, section 3.2), or those of LLaMA with 2-D rotary positions (LlamaGen, Sun et al. 2024, arXiv
2406.06525). Works on indices and vectors; knows nothing about images, prompts or sliding windows.

Shapes: b batch, n codes, p tokens of the prefix, N = p + n, v vocabulary, w width, d width of a head.
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
    """The architecture of a transformer. The fields from ``text_dim`` on describe captions as conditions.

    A transformer for infilling has ``prefix_codes = grid²``: the codes of the image, ``mask_code`` where they are
    unknown, after the caption if there is one. :meth:`for_infilling` returns such a config.
    """

    vocab_size: int = 1024
    block_size: int = 256  # maximum number of tokens, the prefix included
    layers: int = 6
    heads: int = 6
    width: int = 288
    dropout: float = 0.0
    grid: int = 12  # side of the grid of codes that it was trained on, which is the window on larger grids
    codes: int = 0  # only the first so many entries of the vocabulary can be sampled; 0 for all
    mask_code: int = -1  # the code for "unknown" in a condition; -1 for a transformer without
    prefix_codes: int = 0  # codes in the prefix: 1 for a start code or a class, grid² for another image's codes
    patch: int = 1  # patches of so many rows and columns of the condition's codes become one token
    classes: int = 0  # class labels: codes of the prefix if there are prefix_codes, else an embedding of their own
    class_names: tuple[str, ...] = ()
    n_unmasked: int = 0  # attention among the first so many tokens is bidirectional
    learned_positions: bool = True
    rotary: bool = False  # 2-D RoPE: half of each head rotates by the row, half by the column (arXiv 2104.09864)
    llama: bool = False  # RMS norms, gated MLP and no biases (arXiv 2302.13971)
    hidden: int = 0  # width of the MLP; 0 for four times the width
    tied: bool = False  # the head shares its weight with the embedding of the codes
    text_dim: int = 0  # dimension of a caption's embedding; 0 for a transformer without captions
    text_tokens: int = 2  # tokens that this embedding is projected to
    word_dim: int = 0  # dimension of a word piece's embedding
    words: int = 0  # number of word pieces
    styles: tuple[str, ...] = ()  # names of styles; the first means "any", and "" marks one that is not sampled

    @property
    def prefix_length(self) -> int:
        """Number of tokens before the first code."""
        return self.caption_tokens + self.prefix_codes // self.patch**2 + self.has_class_embedding

    @property
    def caption_tokens(self) -> int:
        """Number of tokens of a caption."""
        return (1 if self.styles else 0) + (self.text_tokens if self.text_dim else 0) + self.words

    @property
    def candidate_styles(self) -> list[int]:
        """Indices of the styles that candidates use in turn."""
        return [i for i, name in enumerate(self.styles) if name]

    @property
    def has_class_embedding(self) -> bool:
        """Whether classes have an embedding of their own, with an entry for "no class" after them."""
        return self.classes > 0 and not self.prefix_codes

    @property
    def spatial(self) -> bool:
        """Whether the condition is a grid of codes like the output."""
        return self.prefix_codes > 1

    @property
    def num_codes(self) -> int:
        """Number of codes that can be sampled."""
        return self.codes or self.vocab_size

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def for_infilling(cls, codes: int, grid: int, patch: int = 1, **fields: Any) -> GPTConfig:
        """Return the config of a transformer over ``codes`` codes whose condition is the partly masked grid itself.

        The mask code follows the last code, and attention in the prefix is bidirectional.
        """
        if grid % patch:
            raise ValueError(f"a grid of side {grid} cannot be divided into patches of side {patch}")
        config = cls(
            vocab_size=codes + 1,
            codes=codes,
            mask_code=codes,
            grid=grid,
            patch=patch,
            prefix_codes=grid * grid,
            **fields,
        )
        return replace(config, n_unmasked=config.prefix_length, block_size=config.prefix_length + grid * grid)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GPTConfig:
        """Invert :meth:`to_dict`, also after JSON turned tuples into lists. Raises ValueError for an unknown field."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields {unknown} in a transformer's config; known are {sorted(known)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


class CaptionEmbedding(NamedTuple):
    """A caption as the input of a transformer."""

    text: Tensor  # (b, text_dim): unit embedding of the whole caption
    words: Tensor  # (b, words, word_dim): embeddings of its word pieces, zeros after the last
    style: Tensor  # (b,): index into the config's styles, 0 for any


class KVCache:
    """Keys and values of the first tokens of a sequence, for every layer: (layers, 2, b, heads, capacity, d).

    Tokens beyond the capacity are attended to, but not kept: the next chunk must contain them again.
    """

    def __init__(self, store: Tensor, length: int = 0) -> None:
        self.store, self.length = store, length

    @property
    def capacity(self) -> int:
        """Maximum number of tokens that are kept."""
        return self.store.shape[4]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the new tokens' keys and values (b, heads, n, d) up to the capacity; return those of all tokens.

        ``length`` stays as it is until every layer has been called.
        """
        start, stop = self.length, min(self.length + key.shape[2], self.capacity)
        kept = self.store[layer]
        kept[0, :, :, start:stop] = key[:, :, : stop - start]
        kept[1, :, :, start:stop] = value[:, :, : stop - start]
        if stop == start + key.shape[2]:
            return kept[0, :, :, :stop], kept[1, :, :, :stop]
        return torch.cat([kept[0, :, :, :start], key], 2), torch.cat([kept[1, :, :, :start], value], 2)

    def fork(self, capacity: int) -> KVCache:
        """Return a cache that starts with the tokens of this one; it shares their memory if it cannot keep more."""
        filled = self.store[:, :, :, :, : self.length]
        if capacity <= self.length:
            return KVCache(filled, self.length)
        store = self.store.new_empty(*self.store.shape[:4], capacity, self.store.shape[5])
        store[:, :, :, :, : self.length] = filled
        return KVCache(store, self.length)


class SequenceChunk(NamedTuple):
    """The next tokens of a sequence, after those in its cache: prefix (b, p, w), then codes (b, n)."""

    codes: Tensor
    prefix: Tensor | None = None
    cache: KVCache | None = None


class ChunkSpan(NamedTuple):
    """The place of a chunk's tokens in a forward pass, and their attention mask; None for a causal mask."""

    tokens: slice
    cache: KVCache | None
    mask: Tensor | None


@lru_cache(maxsize=8)
def rotary_cos_sin(config: GPTConfig, device: torch.device) -> Tensor:
    """Return cosine and sine (block_size, d/2, 2) of the 2-D rotary position embedding of each token.

    RoFormer, Su et al. 2021, arXiv 2104.09864, section 3.2.2; in two dimensions as in LlamaGen. The condition of a
    ``spatial`` transformer rotates like the codes, a patch like its centre. A class token has zeros, as LlamaGen was
    trained; other prefixes are not rotated.
    """
    quarter = config.width // config.heads // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, device=device) / quarter)  # theta_i of RoFormer, d/2 per axis

    def grid_cos_sin(patch: int) -> Tensor:
        centres = torch.arange(0, config.grid, patch, device=device)[:, None] + (patch - 1) / 2
        angle = centres * frequencies
        rows = angle[:, None].expand(-1, len(angle), -1)
        grid = torch.cat([rows, rows.transpose(0, 1)], 2).flatten(0, 1)
        return torch.stack([grid.cos(), grid.sin()], 2)

    condition = grid_cos_sin(config.patch) if config.spatial else grid_cos_sin(1)[:0]
    unrotated = condition.new_tensor([0.0 if config.has_class_embedding else 1.0, 0.0])
    others = unrotated.expand(config.prefix_length - len(condition), 2 * quarter, 2)
    return torch.cat([others, condition, grid_cos_sin(1)])


def apply_rotary_emb(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Rotate the pairs of neighbouring channels of queries or keys x (b, heads, n, d) by cos_sin (n, d/2, 2)."""
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = cos_sin.to(x.dtype).unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)  # RoFormer, eq. 34


class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention over several sequences that share a pass."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        w, bias = config.width, not config.llama
        self.key, self.query = nn.Linear(w, w, bias), nn.Linear(w, w, bias)
        self.value, self.proj = nn.Linear(w, w, bias), nn.Linear(w, w, bias)

    def forward(
        self, x: Tensor, spans: Sequence[ChunkSpan], layer: int, cos_sin: Tensor | None, ends: list[int]
    ) -> Tensor:
        """Attend from each token of x (b, N, w) to its own span and that span's cache.

        ends: if not empty, only the queries of these tokens are computed, one per span; the output has their number.
        """
        queried = x[:, ends] if ends else x
        q, k, v = (
            f(y).view(len(x), -1, self.heads, x.shape[2] // self.heads).transpose(1, 2)
            for f, y in ((self.query, queried), (self.key, x), (self.value, x))
        )
        if cos_sin is not None:
            q, k = apply_rotary_emb(q, cos_sin[ends] if ends else cos_sin), apply_rotary_emb(k, cos_sin)
        out = []
        for i, span in enumerate(spans):
            query = q[:, :, i : i + 1] if ends else q[:, :, span.tokens]
            key, value = k[:, :, span.tokens], v[:, :, span.tokens]
            if span.cache is not None:
                key, value = span.cache.append(layer, key, value)
            mask = None if ends else span.mask
            # a single query is the last token and may attend to everything; several need the causal mask
            causal = mask is None and query.shape[2] > 1
            dropout = self.dropout if self.training else 0.0
            out.append(attend(query, key, value, mask, dropout, causal))
        return self.proj(torch.cat(out, 2).transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    """The SwiGLU feed-forward network of LLaMA. Shazeer 2020, arXiv 2002.05202."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (…, width)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # Shazeer 2020, eq. 6


def build_norm(config: GPTConfig) -> nn.Module:
    """Return the RMS norm of LLaMA or the layer norm of GPT."""
    return nn.RMSNorm(config.width, eps=1e-5) if config.llama else nn.LayerNorm(config.width)


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each with a residual connection."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1, self.ln2 = build_norm(config), build_norm(config)
        self.attn = CausalSelfAttention(config)
        width, hidden = config.width, config.hidden or 4 * config.width
        plain = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mlp = GatedMLP(width, hidden) if config.llama else plain
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, spans: Sequence[ChunkSpan], layer: int, cos_sin: Tensor | None, ends: list[int]
    ) -> Tensor:
        """Transform x (b, N, w); the arguments are those of :meth:`CausalSelfAttention.forward`."""
        y = self.drop(self.attn(self.ln1(x), spans, layer, cos_sin, ends))
        x = (x[:, ends] if ends else x) + y
        return x + self.drop(self.mlp(self.ln2(x)))


class GPT(nn.Module):
    """A transformer over codes; see :class:`GPTConfig` for its variants."""

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

    def embed_caption(self, caption: CaptionEmbedding, dropped: Tensor | None = None) -> Tensor:
        """Project a caption to its tokens (b, c, w); where ``dropped`` (b,) is true, to those of "no caption"."""
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
        """Embed a start code, a class as a code, or another image's codes (b, p) to tokens (b, p/patch², w).

        They follow the tokens of a caption in a transformer that has both.
        """
        tokens: Tensor = self.tok_emb(codes)
        if (patch := self.config.patch) > 1:
            side = self.config.grid // patch
            tokens = tokens.view(len(codes), side, patch, side, patch, -1).transpose(2, 3)
            tokens = self.patch_proj(tokens.flatten(3).flatten(1, 2))
        return tokens

    def embed_class(self, label: Tensor) -> Tensor:
        """Embed class labels (b,) to tokens (b, 1, w); the label ``classes`` means "no class", if the model has it."""
        return (self.class_emb if self.config.has_class_embedding else self.tok_emb)(label)[:, None]

    def new_cache(self, batch: int, capacity: int | None = None) -> KVCache:
        """Return an empty cache for a batch of sequences that keeps the first ``capacity`` tokens, all by default."""
        c, like = self.config, self.tok_emb.weight
        capacity = c.block_size if capacity is None else capacity
        return KVCache(like.new_empty(c.layers, 2, batch, c.heads, capacity, c.width // c.heads))

    def forward(
        self, codes: Tensor, prefix: Tensor | None = None, cache: KVCache | None = None, skip: int = 0
    ) -> Tensor:
        """Return logits (b, p + n - skip, v): those at position i are for the token after token skip + i.

        codes: (b, n) of int64. prefix: (b, p, w) from the ``embed_*`` methods. cache: the tokens before; the prefix is
        then only given in the first call.
        """
        return self._run_blocks([SequenceChunk(codes, prefix, cache)], only_ends=False, skip=skip)

    def next_logits(self, chunks: Sequence[SequenceChunk]) -> Tensor:
        """Return logits (b, s, v) for the token after each of s chunks, computed in one pass.

        The chunks belong to different sequences, and may differ in length and position.
        """
        return self._run_blocks(chunks, only_ends=True)

    def _run_blocks(self, chunks: Sequence[SequenceChunk], only_ends: bool, skip: int = 0) -> Tensor:
        """Run several chunks side by side; only attention separates them. Their caches grow."""
        embedded, position_parts, spans, offset = [], [], [], 0
        for chunk in chunks:
            x = self.tok_emb(chunk.codes)
            if chunk.prefix is not None:
                x = torch.cat([chunk.prefix.to(x), x], 1)
            start = chunk.cache.length if chunk.cache is not None else 0
            stop = start + x.shape[1]
            if stop > self.config.block_size:
                raise ValueError(f"{stop} tokens are more than the block size of {self.config.block_size}")
            if chunk.cache is not None and stop < self.config.n_unmasked:
                raise ValueError(f"the first {self.config.n_unmasked} tokens attend to each other: pass them at once")
            embedded.append(x)
            position_parts.append(torch.arange(start, stop, device=x.device))
            tokens = slice(offset, offset + x.shape[1])
            spans.append(ChunkSpan(tokens, chunk.cache, self._attention_mask(start, stop, x.device)))
            offset += x.shape[1]
        x, positions = torch.cat(embedded, 1), torch.cat(position_parts)
        if self.config.learned_positions:
            x = x + self.pos_emb[:, positions]
        cos_sin = rotary_cos_sin(self.config, x.device)[positions] if self.config.rotary else None
        x = self.drop(x)
        ends = [span.tokens.stop - 1 for span in spans] if only_ends else []
        for layer, block in enumerate(self.blocks):
            # the last layer needs the keys and values of all tokens, but only the queries of those that predict
            x = block(x, spans, layer, cos_sin, ends if layer == self.config.layers - 1 else [])
        for span in spans:
            if span.cache is not None:
                span.cache.length = min(span.cache.length + span.tokens.stop - span.tokens.start, span.cache.capacity)
        x = self.ln_f(x[:, skip:])
        return F.linear(x, self.tok_emb.weight) if self.config.tied else self.head(x)

    def _attention_mask(self, start: int, stop: int, device: torch.device) -> Tensor | None:
        """Return which of the first ``stop`` tokens those from ``start`` on attend to; None if plainly causal."""
        n_unmasked = min(self.config.n_unmasked, stop)
        if stop - start == 1 or (start == 0 and n_unmasked < 2):
            return None
        mask = torch.ones(stop - start, stop, dtype=torch.bool, device=device).tril(start)
        mask[: max(0, n_unmasked - start), :n_unmasked] = True
        return mask


def init_weights(module: nn.Module) -> None:
    """Initialise a linear layer or an embedding as GPT-2 does: N(0, 0.02²), biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class PackedLinear(nn.Module):
    """A linear layer whose weight is stored in oneDNN's blocked layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 64)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x (…, inputs)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def pack_linear_layers(gpt: GPT) -> GPT:
    """Return a copy for sampling whose linear layers are in oneDNN's blocked layout, if it is in fp32 on a CPU.

    Sampling a single code is bound by reading all weights. torch passes fp32 layers to MKL, which takes 1.5 times as
    long for this as oneDNN, and twice as long for many tokens on AMD CPUs. Elsewhere the transformer itself is
    returned.
    """
    weight = gpt.tok_emb.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not _has_onednn():
        return gpt
    packed = deepcopy(gpt, {id(p): p for p in gpt.parameters()})  # shares the other parameters
    for module in list(packed.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child))
    return packed.eval()


def _has_onednn() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch._C._has_mkldnn and all(hasattr(torch.ops.mkldnn, name) for name in names)
