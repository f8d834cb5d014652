"""Training steps of the transformer against a plain eager loop in fp32, as in minGPT.

pytest -m benchmark -s tests/benchmarks/test_transformer_stage.py
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.core.device import choose_machine
from vqtools.models.gpt import GPT, GPTConfig
from vqtools.training.settings import TransformerStageSettings
from vqtools.training.transformer_stage import CodeBatch, TransformerStage

pytestmark = pytest.mark.benchmark
BATCH, CELLS = 32, 144
SHAPE = GPTConfig(vocab_size=1024, block_size=145, layers=6, heads=4, width=288, grid=12, prefix_codes=1)


class PlainBlock(nn.Module):
    """minGPT's block: attention written out, one causal mask per block."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        w = c.width
        self.heads = c.heads
        self.ln1, self.ln2 = nn.LayerNorm(w), nn.LayerNorm(w)
        self.key, self.query, self.value, self.proj = (nn.Linear(w, w) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(w, 4 * w), nn.GELU(), nn.Linear(4 * w, w))
        self.register_buffer("mask", torch.tril(torch.ones(c.block_size, c.block_size))[None, None])

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln1(x)
        b, n, w = y.shape
        q, k, v = (f(y).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        seen = (q @ k.transpose(-2, -1)) * (w // self.heads) ** -0.5
        seen = F.softmax(seen.masked_fill(self.mask[:, :, :n, :n] == 0, float("-inf")), dim=-1)
        x = x + self.proj((seen @ v).transpose(1, 2).reshape(b, n, w))
        return x + self.mlp(self.ln2(x))


class PlainTrainer:
    """The published training step: eager, fp32, AdamW parameter by parameter."""

    def __init__(self, c: GPTConfig) -> None:
        self.tok, self.pos = nn.Embedding(c.vocab_size, c.width), nn.Parameter(torch.zeros(1, c.block_size, c.width))
        self.blocks = nn.Sequential(*(PlainBlock(c) for _ in range(c.layers)), nn.LayerNorm(c.width))
        self.head = nn.Linear(c.width, c.vocab_size, bias=False)
        self.parameters = [*self.tok.parameters(), self.pos, *self.blocks.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=3e-4, betas=(0.9, 0.95), foreach=False)

    def step(self, batch: CodeBatch) -> float:
        assert batch.condition is not None
        tokens = torch.cat([batch.condition, batch.codes[:, :-1]], 1)
        logits = self.head(self.blocks(self.tok(tokens) + self.pos[:, : tokens.shape[1]]))
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), batch.codes.reshape(-1))
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        return float(loss.detach())


def random_batch(step: int) -> CodeBatch:
    """Return random codes (BATCH, CELLS) that depend on the step alone."""
    generator = torch.Generator().manual_seed(step)
    return CodeBatch(torch.randint(1024, (BATCH, CELLS), generator=generator), torch.zeros(BATCH, 1, dtype=torch.int64))


def test_throughput_is_at_least_1_3_times_that_of_a_plain_loop() -> None:
    """Tokens per second of processor time at the starter's shape; the median ratio of alternating steps."""
    machine = choose_machine()
    precision = None if machine.precision == "fp32" else machine.dtype
    torch.manual_seed(0)
    ours = TransformerStage(
        TransformerStageSettings(steps=1000), GPT(SHAPE).to(machine.device), random_batch, precision=precision
    )
    plain = PlainTrainer(SHAPE)
    assert machine.device.type == "cpu", "the plain loop runs on the CPU"
    turns: list[tuple[float, float]] = []
    for turn in range(5):
        seconds = []
        for step in (lambda: ours.step()["loss"], lambda t=turn: plain.step(random_batch(t))):  # type: ignore[misc]
            started: Any = time.process_time()
            step()
            seconds.append(time.process_time() - started)
        turns.append((seconds[0], seconds[1]))
    turns = turns[1:]
    speeds = [BATCH * CELLS * torch.get_num_threads() / statistics.median(t) for t in zip(*turns, strict=True)]
    ratio = statistics.median(b / a for a, b in turns)
    print(f"\n{machine.describe()}: {speeds[0]:.0f} tokens/s against {speeds[1]:.0f}, {ratio:.2f} times")
    assert ratio >= 1.3
