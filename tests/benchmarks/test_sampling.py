"""Sampling against the reference procedure, which evaluates the whole window for each code: ratios in one run.

    pytest -m benchmark -s tests/benchmarks/test_sampling.py

The transformer has 24 layers of width 1024 and random weights, in fp32. The reference costs the same for each code, so
a few codes are timed. vqtools samples 16 × 16 grids completely; for larger grids, evenly spread passes are timed with
their caches filled as they would be, and the time of a pass is fitted as a + b · tokens.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vqtools.models.gpt import GPT, GPTConfig, pack_linear_layers
from vqtools.sampling.condition import Condition
from vqtools.sampling.sampler import Sampler, cell_noise

pytestmark = pytest.mark.benchmark
GOLDEN = Path(__file__).parents[1] / "golden"
LARGE = {"vocab_size": 1024, "layers": 24, "heads": 16, "width": 1024, "grid": 16}


def reference_logits(gpt: GPT, tokens: Tensor, past: list[Tensor] | None = None) -> Tensor:
    """Return the logits (b, n, v) of the reference's forward pass; with ``past``, of its cached sampler."""
    heads, n = gpt.config.heads, tokens.shape[1]
    before = past[0].shape[3] if past else 0
    x = gpt.tok_emb(tokens) + gpt.pos_emb[:, before : before + n]
    for i, block in enumerate(gpt.blocks):
        y = block.ln1(x)
        q, k, v = (
            F.linear(y, f.weight, f.bias).unflatten(2, (heads, -1)).transpose(1, 2)
            for f in (block.attn.query, block.attn.key, block.attn.value)
        )
        if past is not None:
            if before:
                k, v = torch.cat([past[i][0], k], 2), torch.cat([past[i][1], v], 2)
                past[i] = torch.stack([k, v])
            else:
                past.append(torch.stack([k, v]))
        scores = q @ k.transpose(2, 3) * (1 / math.sqrt(k.shape[3]))
        if not before:
            scores = scores.masked_fill(torch.tril(torch.ones(n, n)) == 0, float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).contiguous().flatten(2)
        x = x + F.linear(y, block.attn.proj.weight, block.attn.proj.bias)
        up, down = block.mlp[0], block.mlp[2]
        x = x + F.linear(F.gelu(F.linear(block.ln2(x), up.weight, up.bias)), down.weight, down.bias)
    return F.linear(gpt.ln_f(x), gpt.head.weight)


def whole_window_logits(gpt: GPT, condition: Tensor, codes: Tensor, row: int, column: int) -> Tensor:
    """Return the logits (b, v) of one cell by the reference procedure: one pass over the whole window."""
    height, width = codes.shape[1:]
    top, left = min(max(row - 8, 0), height - 16), min(max(column - 8, 0), width - 16)
    window = codes[:, top : top + 16, left : left + 16].flatten(1)
    if gpt.config.spatial:
        condition = condition[:, top : top + 16, left : left + 16].flatten(1)
    logits = reference_logits(gpt, torch.cat([condition, window], 1)[:, :-1])[:, -256:]
    return logits[:, 16 * (row - top) + column - left]


@torch.no_grad()
def test_the_reference_procedure_reproduces_the_golden_codes() -> None:
    stored, walk = load_file(GOLDEN / "taming_gpt.safetensors"), load_file(GOLDEN / "taming_sliding_window.safetensors")
    gpt = GPT(GPTConfig(vocab_size=40, block_size=512, layers=2, heads=4, width=32, grid=16, prefix_codes=256)).eval()
    gpt.load_state_dict({k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")})
    codes = walk["codes_temperature1_topk10"]
    for row in range(19):
        for column in range(0, 37, 3):
            logits = whole_window_logits(gpt, walk["condition_codes"], codes, row, column)
            logits = logits.masked_fill(logits < logits.topk(10).values[:, -1:], -torch.inf)
            assert (logits + walk["gumbel_noise"][row, column]).argmax(-1) == codes[:, row, column]


@pytest.fixture(scope="module")
def spatial() -> GPT:
    return create_large(GPTConfig(**LARGE, block_size=512, prefix_codes=256))


def create_large(config: GPTConfig) -> GPT:
    """Return a transformer with random weights."""
    torch.manual_seed(0)
    gpt = GPT(config).eval().requires_grad_(False)
    gpt.pos_emb.normal_(0, 0.02)
    return gpt


def with_start_code(gpt: GPT) -> GPT:
    """Return a transformer with the same weights and one start code before the window instead of a condition."""
    with torch.device("meta"):
        other = GPT(GPTConfig(**LARGE, block_size=256, prefix_codes=1)).eval()
    state = gpt.state_dict()
    other.load_state_dict({**state, "pos_emb": state["pos_emb"][:, :256]}, assign=True)
    return other.requires_grad_(False)


@torch.no_grad()
def reference_seconds(gpt: GPT, times: int = 2) -> float:
    """Return the seconds per code of the reference procedure."""
    tokens = torch.randint(1024, (1, gpt.config.block_size - (1 if gpt.config.spatial else 0)))
    return min(seconds_of(lambda: reference_logits(gpt, tokens)) for _ in range(times))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def create_sampler(gpt: GPT, height: int, width: int, pictures: int = 1, **options: object) -> Sampler:
    if gpt.config.spatial:
        condition = Condition(spatial=torch.randint(1024, (pictures, height, width)))
    else:
        torch.randint(1024, (pictures, height, width))  # the codes that follow were drawn after these
        condition = Condition(gpt.embed_prefix_codes(torch.zeros(pictures, 1, dtype=torch.int64)))
    return Sampler(pack_linear_layers(gpt), height, width, condition, noise=cell_noise(0, pictures, 1024), **options)


def fitted_seconds(job: Sampler, passes: int = 16) -> float:
    """Return the seconds for a whole grid, estimated from evenly spread passes with their caches filled."""
    cached = {}
    seen: dict[tuple[int, int], int] = {}
    for wave in job.waves:  # the number of cached tokens when each cell is sampled
        for cell in wave:
            origin = job.window.origin(*cell)
            cached[cell] = min(seen.get(origin, 0), job.capacities[origin])
            seen[origin] = job.window.tokens_before(*cell)
    rows, seconds = [], []
    for turn in range(0, job.total, max(1, job.total // passes)):
        job.position, job._caches = turn, {}
        for cell in job.waves[turn]:
            job._cache(job.window.origin(*cell)).length = cached[cell]
        before = job.evaluated
        seconds.append(seconds_of(job.step))
        rows.append([1.0, job.evaluated - before])
    features, targets = torch.tensor(rows, dtype=torch.float64), torch.tensor(seconds, dtype=torch.float64)
    a, b = torch.linalg.lstsq(features, targets[:, None]).solution.flatten().tolist()
    return a * job.total + b * job.window.evaluations(job.cells, job.capacities)


def report(name: str, ratio: float, minimum: float, **details: object) -> None:
    """Print a ratio and its details, and assert that it is at least the minimum."""
    load = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"\n{name}: {ratio:.1f}x, required {minimum}x; {details}; {load}")
    assert ratio >= minimum


def cache_size(job: Sampler) -> str:
    """Return the peak size of the KV caches as text."""
    config, tokens = job.gpt.config, job.window.peak(job.cells, job.capacities)
    return f"{tokens * config.layers * 2 * config.width * 4 * len(job.codes) / 1e9:.2f} GB"


def test_speed_for_a_grid_of_one_window(spatial: GPT) -> None:
    full = reference_seconds(spatial)
    cached = cached_reference_seconds(spatial)
    for pictures, minimum in ((1, 35), (4, 70)):
        job = create_sampler(spatial, 16, 16, pictures)
        took = seconds_of(lambda job=job: [job.step() for _ in range(job.total)])
        per_picture = took / pictures
        report(
            f"16x16, {pictures} at once",
            256 * full / per_picture,
            minimum,
            seconds=round(took, 1),
            caches=cache_size(job),
        )
        if pictures == 1:
            report("16x16, the reference's own cached sampler", cached / took, 1.2)


@torch.no_grad()
def cached_reference_seconds(gpt: GPT) -> float:
    """Return the seconds of the reference's cached sampler, from its first pass and 32 of the 255 that follow."""
    past: list[Tensor] = []
    first = seconds_of(lambda: reference_logits(gpt, torch.randint(1024, (1, 256)), past))
    steps = 0.0
    for length in range(256, 511, 8):
        cache = [torch.zeros(2, 1, 16, length, 64) for _ in range(24)]
        steps += seconds_of(lambda cache=cache: reference_logits(gpt, torch.randint(1024, (1, 1)), cache))
    return first + steps / 32 * 255


@pytest.mark.parametrize(
    ("height", "width", "prefix", "options", "minimum"),
    [
        (32, 32, 256, {}, 4.5),
        (32, 32, 1, {}, 5.5),
        (42, 64, 256, {"memory": 2e9}, 2.2),
        (42, 64, 256, {"memory": 5e9}, 2.7),
        (32, 32, 256, {"stride": (8, 8)}, 25),
        (32, 32, 1, {"stride": (8, 8)}, 20),
        (42, 64, 256, {"stride": (8, 8), "memory": 2e9}, 20),
    ],
)
def test_speed_for_larger_grids(
    spatial: GPT, height: int, width: int, prefix: int, options: dict[str, object], minimum: float
) -> None:
    gpt = spatial if prefix == 256 else with_start_code(spatial)
    full, job = reference_seconds(gpt), create_sampler(gpt, height, width, **options)
    block = 511 if prefix == 256 else 256
    counted = height * width * block / job.window.evaluations(job.cells, job.capacities)
    took = fitted_seconds(job)
    name = f"{height}x{width}, {prefix} before, {json.dumps(options)}"
    report(
        name, height * width * full / took, minimum,
        counted=round(counted, 2), caches=cache_size(job), seconds=round(took), reference=round(height * width * full),
    )  # fmt: skip


def test_exact_sampling_differs_from_the_reference_only_in_near_ties(spatial: GPT) -> None:
    """Cells spread over a grid, each sampled from the same codes before it."""
    job, same, near = create_sampler(spatial, 32, 32), 0, 0
    codes = torch.randint(1024, (1, 32, 32))
    job._grid.copy_(codes)
    for turn in range(5, job.total, 44):
        job.position, job._caches = turn, {}
        drawn = job.waves[turn]
        job.step()
        for row, column in drawn:
            with torch.no_grad():
                logits = whole_window_logits(spatial, job.context.condition, codes, row, column)
            choice = logits + job.noise(row, column)
            best, second = choice.topk(2).values[0]
            equal = int(choice.argmax(-1)) == int(job.codes[0, row, column])
            near += bool(best - second <= 1e-4)
            same += equal
            assert equal or best - second <= 1e-4
            job._grid[:, row, column] = codes[:, row, column]
    print(f"\n{same} codes equal, {near} near ties")
    assert same
