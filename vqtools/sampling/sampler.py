"""Sample grids of codes of any size from a GPT through a sliding window, several pictures at once.

Knows code indices and grid positions; nothing about pixels or prompts.

Noise depends on seed, picture and cell alone, and nothing that is read depends on codes that are not sampled yet. So
caches, their memory, and how many cells and pictures are sampled together change the time but not the codes, except
where two codes are so close that rounding decides. A stride above 1 and half precision give other codes, faster.

Shapes: b pictures, r rows of a batch (2b under guidance), h and w the grid, p tokens of the prefix, v codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqtools.models.gpt import GPT, KVCache, SequenceChunk
from vqtools.sampling.condition import Condition
from vqtools.sampling.window import Cell, Origin, Window

NoiseSource = Callable[[int, int], Tensor]
"""(row, column) -> Gumbel noise (b, v)."""


def keep_top(logits: Tensor, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """Set all logits (b, v) but the largest to -inf.

    top_k: how many are kept, None or 0 for all. top_p: nucleus sampling keeps the smallest set of codes whose
    probabilities sum to at least this (Holtzman et al. 2020, arXiv 1904.09751, section 3.1).
    """
    if top_k and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1.0:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        # nucleus: a code stays if those likelier than it sum to less than top_p
        before = probabilities.cumsum(-1) - probabilities
        logits = logits.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), -torch.inf)
    return logits


def gumbel(uniform: Tensor) -> Tensor:
    """Convert uniform numbers in [0, 1) to Gumbel noise: argmax(logits + noise) is a sample of softmax(logits).

    The Gumbel-max trick: Jang et al. 2017, arXiv 1611.01144, equation 1.
    """
    return -(-uniform.clamp(1e-10, 1 - 1e-7).log()).log()


def cell_noise(seed: int, pictures: int, codes: int, turn: int = 0) -> NoiseSource:
    """Gumbel noise that depends on seed, picture and cell alone, in whatever order cells are sampled.

    turn: another value gives other noise. Philox is counter-based: the cell is where its counter starts (Salmon et
    al. 2011, SC '11).
    """

    def noise(row: int, column: int) -> Tensor:
        streams = (
            np.random.Generator(np.random.Philox(key=[seed, picture], counter=[0, turn, row, column]))
            for picture in range(pictures)
        )
        return gumbel(torch.from_numpy(np.stack([stream.random(codes, np.float32) for stream in streams])))

    return noise


class WindowContext:
    """What the transformer reads in a window: the prefix, the window's part of the spatial codes, then its codes.

    codes: (b, h, w) the grid itself. condition: of r rows, a multiple of b.
    """

    def __init__(self, gpt: GPT, window: Window, codes: Tensor, condition: Condition) -> None:
        self.gpt, self.window, self.codes = gpt, window, codes
        self.prefix, self.rows = condition.prefix, len(condition.main)
        self.spatial = None if condition.spatial is None else self._padded(condition.spatial)
        shape = tuple(condition.main.shape)
        if self.spatial is None:
            expected: tuple[int, ...] = (window.prefix, gpt.config.width)
        else:
            expected = (window.height, window.width)
        if shape[1:] != expected or (self.spatial is not None and not gpt.config.spatial):
            raise ValueError(f"a condition of shape {shape} does not fit {window}")
        tokens = 0 if self.prefix is None else self.prefix.shape[1]
        if self.spatial is not None and tokens != gpt.config.caption_tokens:
            raise ValueError(f"the condition's codes must follow {gpt.config.caption_tokens} tokens of a caption")
        if not window.prefix:
            raise ValueError("a transformer without a prefix cannot predict the first code; give it a start code")

    def _padded(self, codes: Tensor) -> Tensor:
        """Extend codes to the window's size: with the mask code if there is one, else by repeating the border."""
        window, unknown = self.window, self.gpt.config.mask_code
        height, width = codes.shape[1:]
        below, right = max(0, window.side - height), window.columns - width
        if unknown >= 0:
            return torch.nn.functional.pad(codes, (0, right, 0, below), value=unknown)
        rows = torch.arange(height + below, device=codes.device).clamp(max=height - 1)
        columns = torch.arange(width + right, device=codes.device).clamp(max=width - 1)
        return codes[:, rows[:, None], columns]

    def _seen(self, grid: Tensor, origin: Origin) -> Tensor:
        """The part (b, n) of a grid that is in a window, in raster order."""
        top, left = origin
        return grid[:, top : top + self.window.side, left : left + self.window.side].flatten(1)

    def key(self, origin: Origin) -> bytes:
        """Equal for windows with the same tokens before their codes."""
        return b"" if self.spatial is None else self._seen(self.spatial, origin).cpu().numpy().tobytes()

    def reading(self, origin: Origin, stop: int, cache: KVCache | None = None) -> SequenceChunk:
        """The tokens of a window's sequence from the end of the cache up to ``stop``."""
        start, p = cache.length if cache else 0, self.window.prefix
        codes = self._seen(self.codes, origin)[:, max(0, start - p) : max(0, stop - p)]
        codes = codes.repeat(self.rows // len(codes), 1)
        if start >= p:
            return SequenceChunk(codes, None, cache)
        parts = [] if self.prefix is None else [self.prefix]
        if self.spatial is not None:
            parts.append(self.gpt.embed_prefix_codes(self._seen(self.spatial, origin)))
        prefix = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return SequenceChunk(codes, prefix[:, start : min(stop, p)], cache)


class Sampler:
    """Samples grids of codes (b, h, w) through a sliding window; ``step()`` samples the cells that can be at once.

    condition: of b rows. Its unconditional part is used for classifier-free guidance if ``guidance`` is not 1:
        logits = u + guidance · (c - u) (Ho and Salimans 2022, arXiv 2207.12598, equation 6).
    given: codes (b, h, w), of which those where ``known`` (h, w) is true stay.
    temperature: divides the logits; 0 takes the likeliest code. top_k, top_p: see :func:`keep_top`.
    stride: rows and columns the window moves at a time; above (1, 1) faster and not exact.
    memory: limit in bytes for the caches of keys and values; None for no limit.
    together: whether cells are sampled as a wavefront or one after the other.

    ValueError if condition, given codes or stride do not fit the transformer and the grid.
    """

    def __init__(
        self,
        gpt: GPT,
        height: int,
        width: int,
        condition: Condition,
        *,
        noise: NoiseSource,
        guidance: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stride: tuple[int, int] = (1, 1),
        memory: float | None = None,
        together: bool = True,
    ) -> None:
        config = gpt.config
        self.gpt, self.noise = gpt, noise
        self.guidance = 1.0 if condition.unconditional is None else guidance
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.window = Window(height, width, config.grid, config.prefix_length, stride, together)
        if config.n_unmasked > config.prefix_length:
            raise ValueError(
                f"the first {config.n_unmasked} tokens see each other, but the prefix has {config.prefix_length}"
            )
        b, device = len(condition.main), condition.main.device
        self._grid = torch.zeros(b, height, self.window.columns, dtype=torch.int64, device=device)
        self._known = torch.zeros(height, width, dtype=torch.bool)
        if given is not None and known is not None:
            self._give(given, known)
        if self.guidance != 1.0:
            condition = condition.with_guidance()
        self.context = WindowContext(gpt, self.window, self._grid, condition)
        self.cells = self.window.cells(tuple(cell) for cell in self._known.nonzero().tolist())
        self.waves = self.window.waves(self.cells)
        self.position, self.total = 0, len(self.waves)
        self.evaluated = 0  # tokens that the transformer has read
        self._last = {origin: drawn[-1] for origin, drawn in self.window.readings(self.cells).items()}
        token = self.context.rows * config.layers * 2 * config.width * gpt.tok_emb.weight.element_size()
        self._common = self._most_common()
        limit = None if memory is None else int(memory // token) - (0 if self._common is None else config.prefix_length)
        self.capacities = self.window.capacities(self.cells, None if limit is None else max(0, limit))
        self._caches: dict[Origin, KVCache] = {}
        self._base: KVCache | None = None

    def _give(self, given: Tensor, known: Tensor) -> None:
        height, width = self._known.shape
        if given.shape[1:] != (height, width) or known.shape != (height, width):
            shapes = f"{tuple(given.shape)} and {tuple(known.shape)}"
            raise ValueError(f"given codes and their mask, {shapes}, must have {height} rows and {width} columns")
        if bool(known.any()) and int(given[:, known].max()) >= self.gpt.config.vocab_size:
            beyond = int(given[:, known].max())
            raise ValueError(f"code {beyond} is beyond the transformer's vocabulary of {self.gpt.config.vocab_size}")
        self._grid[:, :, :width] = torch.where(known.to(given.device), given, 0).to(self._grid.device)
        self._known |= known.cpu()

    @property
    def codes(self) -> Tensor:
        """The grids (b, h, w) so far, 0 where nothing is sampled yet."""
        return self._grid[:, :, : self.window.width]

    @property
    def drawn(self) -> Tensor:
        """Which cells (h, w) have their codes, a bool tensor on the CPU."""
        drawn = self._known.clone()
        for row, column in (cell for wave in self.waves[: self.position] for cell in wave):
            if column < self.window.width:
                drawn[row, column] = True
        return drawn

    def _most_common(self) -> bytes | None:
        """The key of the most frequent tokens before the codes, if several windows share them: they are read once."""
        if self.gpt.config.n_unmasked or self.window.prefix < 2:
            return None
        counts = Counter(self.context.key(origin) for origin in self._last).most_common(1)
        return counts[0][0] if counts and counts[0][1] > 1 else None

    def _cache(self, origin: Origin) -> KVCache:
        if origin not in self._caches:
            capacity = self.capacities[origin]
            if self._common is None or self.context.key(origin) != self._common:
                self._caches[origin] = self.gpt.new_cache(self.context.rows, capacity)
            else:
                if self._base is None:  # the first cell reads the prefix's last token
                    self._base = self.gpt.new_cache(self.context.rows, self.window.prefix - 1)
                    self._read([self.context.reading(origin, self.window.prefix - 1, self._base)])
                self._caches[origin] = self._base.fork(capacity)
        return self._caches[origin]

    def _read(self, readings: list[SequenceChunk]) -> Tensor:
        for codes, prefix, _ in readings:
            self.evaluated += codes.shape[1] + (0 if prefix is None else prefix.shape[1])
        return self.gpt.next_logits(readings)

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """Sample the next wave of cells; reports their mean negative log-likelihood in nats."""
        wave = self.waves[self.position]
        origins = [self.window.origin(*cell) for cell in wave]
        readings = [
            self.context.reading(origin, self.window.tokens_before(*cell), self._cache(origin))
            for origin, cell in zip(origins, wave, strict=True)
        ]
        logits = self._read(readings)[..., : self.gpt.config.num_codes].float()
        nll = 0.0
        for i, (origin, cell) in enumerate(zip(origins, wave, strict=True)):
            codes = self.draw(logits[:, i], cell)
            self._grid[:, cell[0], cell[1]] = codes
            if self._last[origin] == cell:
                del self._caches[origin]
            nll -= float(logits[: len(codes), i].log_softmax(-1).gather(1, codes[:, None]).mean())
        self.position += 1
        return {"nats per code": nll / len(wave)}

    def draw(self, logits: Tensor, cell: Cell) -> Tensor:
        """Sample a code for each picture (b,) from the logits (r, v) of a cell."""
        if len(logits) > len(self._grid):
            conditional, unconditional = logits.chunk(2)
            # classifier-free guidance, equation 6: u + s · (c - u)
            logits = (
                unconditional + self.guidance * (conditional - unconditional) if self.guidance != 1 else conditional
            )
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = keep_top(logits / self.temperature, self.top_k, self.top_p)
        return (logits + self.noise(*cell).to(logits.device)).argmax(-1)  # Gumbel-max

    def state_dict(self) -> dict[str, Any]:
        """Position and codes; noise and caches follow from them."""
        return {"position": self.position, "codes": self._grid.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; the caches are filled again from the codes."""
        self.position = state["position"]
        self._grid.copy_(state["codes"])
        self._caches = {}
