"""Sampling grids: equality with the reference, exact options, seeds, resuming, guidance, given codes."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from vqtools.models.gpt import GPT, GPTConfig, pack_linear_layers
from vqtools.sampling.condition import Condition
from vqtools.sampling.sampler import Sampler, cell_noise, gumbel, keep_top

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPE = {"vocab_size": 12, "block_size": 40, "layers": 2, "heads": 2, "width": 16, "grid": 4}
CONFIGS = {
    "start": GPTConfig(**SHAPE, prefix_codes=1, codes=11),
    "spatial": GPTConfig(**SHAPE, prefix_codes=16, codes=11, mask_code=11),
    "unmasked": GPTConfig(**SHAPE, prefix_codes=16, n_unmasked=16),
    "class": GPTConfig(**SHAPE, classes=3, learned_positions=False, rotary=True, llama=True),
    "turned": GPTConfig(**SHAPE, prefix_codes=16, rotary=True, tied=True),
}


def network(config: GPTConfig) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(config).eval().requires_grad_(False)
    for p in gpt.parameters():  # the initial values are so small that nothing would show
        if p.ndim > 1:
            p.normal_(0, 0.6)
    return gpt


@pytest.fixture(scope="module", params=CONFIGS)
def gpt(request: pytest.FixtureRequest) -> GPT:
    return network(CONFIGS[request.param])


@pytest.fixture(scope="module")
def plain() -> GPT:
    return network(CONFIGS["start"])


def condition(gpt: GPT, n: int, height: int, width: int, seed: int = 5) -> Tensor:
    """The same for picture 0 whatever n."""
    generator = torch.Generator().manual_seed(seed)
    if gpt.config.spatial:
        return torch.stack([torch.randint(11, (height, width), generator=generator) for _ in range(n)])
    label = torch.zeros(n, dtype=torch.int64)
    return gpt.embed_class(label + 1) if gpt.config.classes else gpt.embed_prefix_codes(label[:, None])


def sampler(
    gpt: GPT, height: int = 6, width: int = 9, n: int = 1, seed: int = 0, unconditional: Tensor | None = None,
    **options: object,
) -> Sampler:  # fmt: skip
    noise = cell_noise(seed, n, gpt.config.num_codes)
    main = condition(gpt, n, height, width)
    parts = Condition(spatial=main) if gpt.config.spatial else Condition(main, unconditional)
    return Sampler(gpt, height, width, parts, noise=noise, **options)


def drawn(job: Sampler) -> Tensor:
    while job.position < job.total:
        job.step()
    return job.codes.clone()


def by_the_reference(gpt: GPT, condition: Tensor, height: int, width: int, noise: object) -> Tensor:
    """One pass over the whole window for every code, of a grid no smaller than the window."""
    side, p = gpt.config.grid, gpt.config.prefix_length
    codes = torch.zeros(1, height, width, dtype=torch.int64)
    for i, j in itertools.product(range(height), range(width)):
        r, c = min(max(i - side // 2, 0), height - side), min(max(j - side // 2, 0), width - side)
        prefix = condition[:1]
        if gpt.config.spatial:
            prefix = gpt.tok_emb(prefix[:, r : r + side, c : c + side].flatten(1))
        logits = gpt(codes[:, r : r + side, c : c + side].flatten(1), prefix)[0, p - 1 + side * (i - r) + j - c]
        codes[:, i, j] = (logits[: gpt.config.num_codes] + noise(i, j)[0]).argmax()
    return codes


# every combination of the switches; two pictures at once where that is quick
WAYS = [way for way in itertools.product([True, False], [None, 2e6, 0], [1, 2]) if way[1] is None or way[2] == 1]


@pytest.mark.parametrize(("together", "memory", "n"), WAYS)
def test_all_703_codes_equal_the_reference(together: bool, memory: float | None, n: int) -> None:
    stored, walk = load_file(GOLDEN / "taming_gpt.safetensors"), load_file(GOLDEN / "taming_sliding_window.safetensors")
    gpt = GPT(GPTConfig(vocab_size=40, block_size=512, layers=2, heads=4, width=32, grid=16, prefix_codes=256)).eval()
    gpt.load_state_dict({k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")})
    temperature, top_k, name = (1.0, 10, "codes_temperature1_topk10")
    if WAYS.index((together, memory, n)) % 2:
        temperature, top_k, name = (0.7, 40, "codes_temperature07_topk40")
    job = Sampler(
        pack_linear_layers(gpt) if n == 2 and memory is None else gpt, 19, 37,
        Condition(spatial=walk["condition_codes"].expand(n, -1, -1)),
        noise=lambda row, column: walk["gumbel_noise"][row, column].expand(n, -1),
        temperature=temperature, top_k=top_k, together=together, memory=memory,
    )  # fmt: skip
    assert torch.equal(drawn(job), walk[name].expand(n, -1, -1))


def test_sampling_equals_the_reference_procedure(gpt: GPT) -> None:
    job = sampler(gpt, 6, 9)
    expected = by_the_reference(gpt, condition(gpt, 1, 6, 9), 6, 9, job.noise)
    assert torch.equal(drawn(job), expected)
    assert len(expected.unique()) > 4


@settings(max_examples=25, deadline=None)
@drawn_from(st.data(), st.sampled_from(list(CONFIGS)), st.integers(1, 9), st.integers(1, 11))
def test_all_exact_options_give_the_same_codes(data: st.DataObject, name: str, height: int, width: int) -> None:
    gpt = network(CONFIGS[name])
    ways = {
        "together": st.booleans(), "memory": st.sampled_from([None, 0, 9000, 30000]), "n": st.integers(1, 3),
    }  # fmt: skip
    way = data.draw(st.fixed_dictionaries(ways))
    codes = drawn(sampler(pack_linear_layers(gpt) if data.draw(st.booleans()) else gpt, height, width, **way))
    plainly = drawn(sampler(gpt, height, width, together=False, memory=0))
    assert torch.equal(codes[:1], plainly)


def test_the_number_of_tokens_read_is_the_predicted_one(gpt: GPT) -> None:
    token = 2 * gpt.config.layers * gpt.config.width * 4
    for limit in (None, 0, 60):
        job = sampler(gpt, 9, 11, memory=None if limit is None else limit * token)
        held = []
        while job.position < job.total:
            job.step()
            held.append(sum(cache.capacity for cache in job._caches.values()))
        assert job.evaluated == job.window.evaluations(job.cells, job.capacities)
        assert max(held) <= job.window.peak(job.cells, job.capacities)
        assert not job._caches


def test_a_shared_prefix_is_read_once() -> None:
    gpt = network(CONFIGS["spatial"])
    unknown = torch.full((1, 9, 11), 11)
    for memory in (None, 9000, 0):
        job = Sampler(gpt, 9, 11, Condition(spatial=unknown), noise=cell_noise(0, 1, 11), memory=memory)
        assert torch.equal(drawn(job), by_the_reference(gpt, unknown, 9, 11, job.noise))
        assert job.evaluated < job.window.evaluations(job.cells, job.capacities) - 16 * 30


def test_noise_depends_on_seed_picture_and_cell_alone() -> None:
    one, three = cell_noise(7, 1, 50), cell_noise(7, 3, 50)
    later = three(2, 5)
    assert torch.equal(one(2, 5)[0], later[0]) and torch.equal(three(2, 5), later)
    others = [
        *later[1:],
        three(5, 5)[0],
        three(2, 2)[0],
        cell_noise(8, 1, 50)(2, 5)[0],
        cell_noise(7, 1, 50, turn=1)(2, 5)[0],
    ]
    assert not any(torch.equal(later[0], other) for other in others)
    assert cell_noise(2**63 - 1, 1, 50)(0, 0).isfinite().all()
    draws = (torch.tensor([0.5, 0.3, 0.2]).log() + gumbel(torch.rand(20000, 3))).argmax(-1).bincount() / 20000
    torch.testing.assert_close(draws, torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=0.02)


def test_the_seed_determines_the_codes(plain: GPT) -> None:
    assert torch.equal(drawn(sampler(plain, seed=1)), drawn(sampler(plain, seed=1)))
    assert not torch.equal(drawn(sampler(plain, seed=1)), drawn(sampler(plain, seed=2)))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 17])
def test_a_resumed_sampler_gives_the_same_codes(guidance: float, steps: int) -> None:
    gpt = network(CONFIGS["class"])
    nothing = gpt.embed_class(torch.tensor([3, 3]))
    first, again = (sampler(gpt, n=2, unconditional=nothing, guidance=guidance) for _ in range(2))
    for _ in range(steps):
        first.step()
    state = first.state_dict()
    assert int(first.drawn.sum()) >= steps and torch.equal(first.drawn, first.drawn & (first.codes[0] >= 0))
    drawn(again)
    again.load_state_dict(state)
    assert torch.equal(again.drawn, first.drawn)
    assert torch.equal(drawn(again), drawn(first))


def test_a_step_changes_the_cells_of_its_wave_only(plain: GPT) -> None:
    job = sampler(plain)
    while job.position < job.total:
        before = job.drawn
        job.step()
        new = {tuple(cell) for cell in (job.drawn & ~before).nonzero().tolist()}
        assert new == set(job.waves[job.position - 1])


def test_guidance_one_equals_the_conditional_model() -> None:
    gpt = network(CONFIGS["class"])
    nothing = gpt.embed_class(torch.tensor([3]))
    alone = drawn(sampler(gpt, temperature=0))
    assert torch.equal(drawn(sampler(gpt, temperature=0, unconditional=nothing, guidance=1.0)), alone)
    assert not torch.equal(drawn(sampler(gpt, temperature=0, unconditional=nothing, guidance=6.0)), alone)


def test_temperature_zero_ignores_the_seed(plain: GPT) -> None:
    assert torch.equal(drawn(sampler(plain, seed=1, temperature=0)), drawn(sampler(plain, seed=2, temperature=0)))


@pytest.mark.parametrize("side", ["above", "left", "hole"])
def test_given_codes_stay_and_condition_the_others(plain: GPT, side: str) -> None:
    known = torch.zeros(6, 9, dtype=torch.bool)
    known[{"above": (slice(3),), "left": (slice(None), slice(4)), "hole": (slice(None),)}[side]] = True
    if side == "hole":
        known[2:4, 3:6] = False
    plainly = {"known": known, "temperature": 0.2}
    given = torch.randint(11, (1, 6, 9), generator=torch.Generator().manual_seed(1))
    codes = drawn(sampler(plain, given=given, **plainly))
    assert torch.equal(codes[:, known], given[:, known])
    # the same codes as where the given ones had been drawn
    job = sampler(plain, given=torch.where(known, given, codes), **plainly, memory=0, together=False)
    assert torch.equal(drawn(job), codes)
    assert job.total == int((~known).sum())
    other = (given + 1) % 11
    assert not torch.equal(drawn(sampler(plain, given=other, **plainly))[:, ~known], codes[:, ~known])


def test_a_completely_given_grid_needs_no_steps(plain: GPT) -> None:
    job = sampler(plain, given=torch.ones(1, 6, 9, dtype=torch.int64), known=torch.ones(6, 9, dtype=torch.bool))
    assert job.total == 0 and bool(job.drawn.all())


def test_a_small_grid_is_the_corner_of_a_window(plain: GPT) -> None:
    whole = drawn(sampler(plain, 4, 4))
    for height, width in itertools.product(range(1, 5), range(1, 5)):
        assert torch.equal(drawn(sampler(plain, height, width)), whole[:, :height, :width])


def test_a_caption_and_spatial_codes_are_read_together() -> None:
    gpt = network(GPTConfig.for_infilling(11, 4, 2, layers=2, heads=2, width=16, text_dim=6, text_tokens=3))
    words = torch.randn(2, 3, 16)
    given = torch.randint(11, (1, 6, 9))
    known = torch.rand(6, 9) < 0.5
    holes = torch.where(known, given, 11)
    noise = cell_noise(0, 1, 11)
    condition = Condition(words[:1], words[1:], holes)
    job = Sampler(gpt, 6, 9, condition, noise=noise, given=given, known=known, guidance=2.0)
    codes = torch.where(known, given, 0)
    for i, j in (~known).nonzero().tolist():
        r, c = min(max(i - 2, 0), 2), min(max(j - 2, 0), 5)
        patch = gpt.embed_prefix_codes(holes[:, r : r + 4, c : c + 4].flatten(1)).expand(2, -1, -1)
        window = codes[:, r : r + 4, c : c + 4].flatten(1).expand(2, -1)
        place = gpt.config.prefix_length - 1 + 4 * (i - r) + j - c
        with_words, without = gpt(window, torch.cat([words, patch], 1))[:, place, :11]
        codes[:, i, j] = (without + 2 * (with_words - without) + noise(i, j)[0]).argmax()
    assert torch.equal(drawn(job), codes)
    with pytest.raises(ValueError, match="3 tokens of a caption"):
        Sampler(gpt, 6, 9, Condition(spatial=holes), noise=noise)


def test_the_mask_code_is_never_sampled() -> None:
    gpt = network(CONFIGS["spatial"])
    gpt.head.weight[11] = gpt.head.weight[:11].sum(0) * 50
    assert int(drawn(sampler(gpt)).max()) < 11


def test_a_stride_reads_fewer_tokens(plain: GPT) -> None:
    exact, quick = sampler(plain, 12, 12), sampler(plain, 12, 12, stride=(2, 2))
    assert not torch.equal(drawn(quick), drawn(exact))
    assert quick.evaluated < exact.evaluated / 2


def test_top_k_and_top_p_keep_the_likeliest_codes() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    assert keep_top(logits, top_k=2).isfinite().tolist() == [[False, True, False, True]]
    assert keep_top(logits, top_p=0.69).isfinite().tolist() == [[False, True, False, True]]
    assert keep_top(logits, top_p=0.71).isfinite().tolist() == [[False, True, True, True]]
    assert keep_top(logits, top_p=1e-6).isfinite().sum() == 1
    assert torch.equal(keep_top(logits, top_k=0), logits)


def test_inputs_that_do_not_fit_raise_an_error(plain: GPT) -> None:
    noise = cell_noise(0, 1, 11)
    with pytest.raises(ValueError, match="does not fit"):
        Sampler(plain, 6, 9, Condition(torch.zeros(1, 2, 16)), noise=noise)
    with pytest.raises(ValueError, match="does not fit"):
        codes = torch.zeros(1, 6, 8, dtype=torch.int64)
        Sampler(network(CONFIGS["spatial"]), 6, 9, Condition(spatial=codes), noise=noise)
    with pytest.raises(ValueError, match="must have 6 rows and 9 columns"):
        sampler(plain, given=torch.zeros(1, 6, 8, dtype=torch.int64), known=torch.ones(6, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="code 57 is beyond the transformer's vocabulary of 12"):
        sampler(plain, given=torch.full((1, 6, 9), 57), known=torch.ones(6, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="the first 9 tokens see each other, but the prefix has 1"):
        sampler(network(GPTConfig(**SHAPE, prefix_codes=1, n_unmasked=9)))
    with pytest.raises(ValueError, match="without a prefix"):
        Sampler(network(GPTConfig(**SHAPE)), 6, 9, Condition(torch.zeros(1, 0, 16)), noise=noise)
