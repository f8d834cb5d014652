"""The GPT: the references' stored logits, the cache, chunks in one pass, and captions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig, SequenceChunk, pack_linear_layers
from vqtools.sampling.condition import Condition
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.weights.gpt_key_maps import from_llamagen, from_minigpt

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = GPTConfig(
    vocab_size=11, block_size=20, layers=2, heads=2, width=16, grid=3, text_dim=6, text_tokens=2, word_dim=4, words=3,
    styles=("any", "oil"),
)  # fmt: skip


def tiny() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(TINY).eval()
    for p in gpt.parameters():  # the initial values are so small that nothing would show
        p.data.normal_(0, 0.3)
    return gpt


def caption(n: int = 2) -> CaptionEmbedding:
    return CaptionEmbedding(torch.randn(n, 6), torch.randn(n, 3, 4), torch.zeros(n, dtype=torch.int64))


def test_logits_equal_the_reference() -> None:
    stored = load_file(GOLDEN / "taming_gpt.safetensors")
    gpt = GPT(GPTConfig(vocab_size=40, block_size=512, layers=2, heads=4, width=32)).eval()
    gpt.load_state_dict({k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")})
    with torch.no_grad():
        logits = gpt(stored["tokens"])[:, stored["positions"]]
    torch.testing.assert_close(logits, stored["logits"], rtol=0, atol=1e-5)


def test_a_cache_does_not_change_the_logits() -> None:
    gpt, codes = tiny(), torch.randint(11, (2, 9))
    prefix, cache = gpt.embed_caption(caption()), gpt.new_cache(2)
    whole = gpt(codes, prefix)
    steps = [gpt(codes[:, :0], prefix, cache)[:, -1]] + [gpt(codes[:, i : i + 1], None, cache)[:, -1] for i in range(9)]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, TINY.prefix_length - 1 :], rtol=1e-4, atol=1e-4)
    assert cache.length == TINY.prefix_length + 9


def test_logits_do_not_depend_on_later_codes() -> None:
    gpt, codes = tiny(), torch.randint(11, (1, 9))
    other = codes.clone()
    other[0, 5] = (other[0, 5] + 1) % 11
    prefix = gpt.embed_caption(caption(1))
    a, b = gpt(codes, prefix), gpt(other, prefix)
    first = TINY.prefix_length + 5
    assert torch.equal(a[:, :first], b[:, :first])
    assert not torch.allclose(a[:, first], b[:, first])


def test_logits_do_not_depend_on_a_dropped_caption() -> None:
    gpt = tiny()
    dropped = torch.tensor([True, False])
    a, b = gpt.embed_caption(caption(), dropped), gpt.embed_caption(caption(), dropped)
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])


def test_a_sequence_longer_than_the_block_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="21 tokens are more than the block size of 20"):
        tiny()(torch.zeros(1, 21, dtype=torch.int64))


def test_a_config_is_restored_from_json_and_unknown_fields_are_errors() -> None:
    assert GPTConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    with pytest.raises(ValueError, match="colour"):
        GPTConfig.from_dict({"colour": 1})


OTHERS = {
    "plain": GPTConfig(vocab_size=11, block_size=20, layers=2, heads=2, width=16, grid=3, prefix_codes=9),
    "unmasked": GPTConfig(
        vocab_size=11, block_size=20, layers=2, heads=2, width=16, grid=3, prefix_codes=9, n_unmasked=9
    ),
    "rotary": GPTConfig(vocab_size=11, block_size=18, layers=2, heads=2, width=16, grid=3, prefix_codes=9, rotary=True),
    "filling": GPTConfig.for_infilling(11, 4, 2, layers=2, heads=2, width=16, rotary=True, text_dim=6, text_tokens=3),
    "llama": GPTConfig(
        vocab_size=11, block_size=20, layers=2, heads=2, width=16, grid=4, classes=3, learned_positions=False,
        rotary=True, llama=True, hidden=24, tied=True,
    ),
}  # fmt: skip


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(OTHERS[request.param]).eval().requires_grad_(False)
    for p in gpt.parameters():
        p.normal_(0, 0.3)
    return gpt


def prefix_of(gpt: GPT, b: int) -> torch.Tensor:
    if gpt.config.has_class_embedding:
        return gpt.embed_class(torch.randint(4, (b,)))
    codes = gpt.embed_prefix_codes(torch.randint(11, (b, gpt.config.prefix_codes)))
    if gpt.config.text_dim:
        codes = torch.cat([gpt.embed_caption(caption(b)), codes], 1)
    return codes


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("capacity", [0, 4, 9, 13, None])
def test_chunks_in_one_pass_have_the_logits_of_separate_passes(other: GPT, capacity: int | None) -> None:
    b, counts = 2, (3, 8, 0, 5)
    prefixes, codes = [prefix_of(other, b) for _ in counts], [torch.randint(11, (b, n)) for n in counts]
    alone = torch.stack([other(c, p)[:, -1] for c, p in zip(codes, prefixes, strict=True)], 1)
    caches = [other.new_cache(b, capacity) for _ in counts]
    first = [SequenceChunk(c[:, :1], p, cache) for c, p, cache in zip(codes, prefixes, caches, strict=True)]
    close(other.next_logits(first[2:3]), alone[:, 2:3])
    other.next_logits([first[i] for i in (0, 1, 3)])
    rest = []
    for i in (0, 1, 3):
        tokens = torch.cat([prefixes[i], other.tok_emb(codes[i])], 1)[:, caches[i].length :]
        rest.append(SequenceChunk(codes[i][:, :0], tokens, caches[i]))
    close(other.next_logits(rest), alone[:, [0, 1, 3]])
    if capacity is not None:
        assert all(cache.length <= capacity for cache in caches)


def test_a_forked_cache_leaves_the_original_unchanged(other: GPT) -> None:
    prefix, codes = prefix_of(other, 1), torch.randint(11, (1, 6))
    trunk = other.new_cache(1, other.config.prefix_length)
    other.next_logits([SequenceChunk(codes[:, :0], prefix, trunk)])
    for capacity in (0, other.config.prefix_length + 3):
        branch = trunk.fork(capacity)
        close(other.next_logits([SequenceChunk(codes, None, branch)])[:, 0], other(codes, prefix)[:, -1])
    assert trunk.length == other.config.prefix_length
    close(
        other.next_logits([SequenceChunk(codes[:, :2], None, trunk.fork(0))])[:, 0], other(codes[:, :2], prefix)[:, -1]
    )


def test_packed_layers_compute_the_same_and_share_the_other_parameters(other: GPT) -> None:
    prefix, codes = prefix_of(other, 2), torch.randint(11, (2, 6))
    ready = pack_linear_layers(other)
    assert ready is not other  # oneDNN is part of every build of torch for x86
    close(ready(codes, prefix), other(codes, prefix))
    assert ready.tok_emb.weight is other.tok_emb.weight
    half = pack_linear_layers(GPT(other.config).bfloat16())
    assert half.tok_emb.weight.dtype == torch.bfloat16


def test_attention_among_the_first_tokens_is_bidirectional_and_needs_one_chunk() -> None:
    gpt = GPT(OTHERS["unmasked"]).eval()
    gpt.pos_emb.data.normal_()
    codes = torch.randint(11, (1, 9))
    other = codes.clone()
    other[0, 8] = (other[0, 8] + 1) % 11
    assert not torch.allclose(gpt(codes)[:, 0], gpt(other)[:, 0])
    with pytest.raises(ValueError, match="first 9 tokens attend to each other"):
        gpt.next_logits([SequenceChunk(codes[:, :5], None, gpt.new_cache(1))])


def test_a_masked_condition_follows_the_caption() -> None:
    gpt = GPT(OTHERS["filling"]).eval()
    c = gpt.config
    assert (c.mask_code, c.num_codes, c.prefix_length, c.n_unmasked, c.block_size) == (11, 11, 3 + 4, 7, 7 + 16)
    for p in gpt.parameters():
        p.data.normal_(0, 0.3)
    words, codes, unknown = gpt.embed_caption(caption(1)), torch.randint(11, (1, 16)), torch.full((1, 16), c.mask_code)

    def logits(condition: torch.Tensor) -> torch.Tensor:
        return gpt(codes[:, :-1], torch.cat([words, gpt.embed_prefix_codes(condition)], 1), skip=c.prefix_length - 1)

    nothing = logits(unknown)
    assert nothing.shape == (1, 16, 12)
    for cell in range(16):  # every known cell, the last one too, is heard from the first code on
        known = unknown.clone()
        known[0, cell] = codes[0, cell]
        assert not torch.allclose(logits(known)[:, 0], nothing[:, 0])
    with pytest.raises(ValueError, match="grid of side 4 cannot be divided into patches of side 3"):
        GPTConfig.for_infilling(11, 4, 3)


def test_a_patch_token_embeds_a_square_of_the_condition() -> None:
    gpt = GPT(OTHERS["filling"]).eval()
    codes = torch.randint(11, (1, 4, 4))
    tokens = gpt.embed_prefix_codes(codes.flatten(1))
    codes[0, 2:, :2] = 11  # the lower left patch is the third in raster order
    changed = (gpt.embed_prefix_codes(codes.flatten(1)) != tokens).any(2)
    assert changed.tolist() == [[False, False, True, False]]


def llamagen() -> GPT:
    state = torch.load(GOLDEN / "llamagen_gpt.pt", weights_only=True)["model"]
    config, tensors = from_llamagen(state, heads=4, grid=6)
    gpt = GPT(config).eval().requires_grad_(False)
    gpt.load_state_dict(tensors)
    return gpt


def test_llamagen_logits_equal_the_stored_ones() -> None:
    gpt, stored = llamagen(), load_file(GOLDEN / "llamagen_gpt_io.safetensors")
    nothing = torch.full_like(stored["class_label"], gpt.config.classes)
    for label, name in ((stored["class_label"], "logits"), (nothing, "logits_unconditional")):
        for network in (gpt, pack_linear_layers(gpt)):
            logits = network(stored["tokens"], gpt.embed_class(label))
            torch.testing.assert_close(logits, stored[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("guidance", "until", "name"), [
    (1.0, 36, "greedy_tokens"), (2.0, 36, "greedy_tokens_cfg2"), (4.0, 11, "greedy_tokens_cfg4_interval9"),
])  # fmt: skip
def test_llamagen_greedy_codes_equal_the_stored_ones(guidance: float, until: int, name: str) -> None:
    gpt, stored = pack_linear_layers(llamagen()), load_file(GOLDEN / "llamagen_gpt_io.safetensors")
    label = stored["class_label"]
    nothing = gpt.embed_class(torch.full_like(label, gpt.config.classes))
    job = Sampler(
        gpt, 6, 6, Condition(gpt.embed_class(label), nothing), guidance=guidance, temperature=0,
        noise=cell_noise(0, 2, 40),
    )  # fmt: skip
    while job.position < job.total:
        job.guidance = guidance if job.position < until else 1.0
        job.step()
    assert torch.equal(job.codes.flatten(1), stored[name])


@pytest.mark.parametrize("kind", ["class", "seg"])
def test_the_transformer_of_a_full_checkpoint_samples_the_stored_codes(kind: str) -> None:
    """Classes and segmentations are conditions of codes."""
    stored = load_file(GOLDEN / f"taming_net2net_{kind}_io.safetensors")
    weights = load_file(GOLDEN / f"taming_net2net_{kind}_gpt.safetensors")
    fields = {"prefix_codes": 1, "classes": 10} if kind == "class" else {"prefix_codes": 48, "grid": 8}
    config, tensors = from_minigpt(weights, heads=4, **fields)
    gpt = GPT(config).eval().requires_grad_(False)
    gpt.load_state_dict(tensors)
    prefix = gpt.embed_prefix_codes(stored["condition_codes"].flatten(1))
    torch.testing.assert_close(gpt(stored["tokens"][:, prefix.shape[1] :], prefix)[:, prefix.shape[1] - 1 :],
                               stored["logits"], rtol=0, atol=1e-5)  # fmt: skip


def test_a_style_without_a_name_is_no_candidate() -> None:
    assert replace(TINY, styles=("any", "oil", "", "ink")).candidate_styles == [0, 1, 3]
