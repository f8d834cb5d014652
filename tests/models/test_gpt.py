"""The GPT: the reference's stored logits, the cache, and captions."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtools.models.gpt import GPT, Cache, Caption, GPTConfig

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


def caption(n: int = 2) -> Caption:
    return Caption(torch.randn(n, 6), torch.randn(n, 3, 4), torch.zeros(n, dtype=torch.int64))


def test_logits_are_the_reference_s() -> None:
    stored = load_file(GOLDEN / "taming_gpt.safetensors")
    gpt = GPT(GPTConfig(vocab_size=40, block_size=512, layers=2, heads=4, width=32)).eval()
    gpt.load_state_dict({k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")})
    with torch.no_grad():
        logits = gpt(stored["tokens"])[:, stored["positions"]]
    torch.testing.assert_close(logits, stored["logits"], rtol=0, atol=1e-5)


def test_with_a_cache_the_logits_are_the_same() -> None:
    gpt, codes = tiny(), torch.randint(11, (2, 9))
    prefix, cache = gpt.prefix(caption()), Cache()
    whole = gpt(codes, prefix)
    steps = [gpt(codes[:, :0], prefix, cache)[:, -1]] + [gpt(codes[:, i : i + 1], None, cache)[:, -1] for i in range(9)]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, TINY.prefix - 1 :], rtol=1e-4, atol=1e-4)
    assert cache.length == TINY.prefix + 9


def test_a_code_cannot_see_what_comes_after_it() -> None:
    gpt, codes = tiny(), torch.randint(11, (1, 9))
    other = codes.clone()
    other[0, 5] = (other[0, 5] + 1) % 11
    prefix = gpt.prefix(caption(1))
    a, b = gpt(codes, prefix), gpt(other, prefix)
    first = TINY.prefix + 5
    assert torch.equal(a[:, :first], b[:, :first])
    assert not torch.allclose(a[:, first], b[:, first])


def test_a_dropped_caption_leaves_no_trace() -> None:
    gpt = tiny()
    dropped = torch.tensor([True, False])
    a, b = gpt.prefix(caption(), dropped), gpt.prefix(caption(), dropped)
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])


def test_too_long_a_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="21 tokens are more than the block of 20"):
        tiny()(torch.zeros(1, 21, dtype=torch.int64))


def test_config_survives_json_and_refuses_what_it_does_not_know() -> None:
    assert GPTConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    with pytest.raises(ValueError, match="colour"):
        GPTConfig.from_dict({"colour": 1})
