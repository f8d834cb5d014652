"""Drawing grids: seeds, resuming, guidance, and filters."""

import pytest
import torch

from vqtools.models.gpt import GPT, GPTConfig
from vqtools.sampling.sampler import Sampler, keep_top

CONFIG = GPTConfig(
    vocab_size=11, block_size=20, layers=2, heads=2, width=16, grid=3, text_dim=6, text_tokens=2, word_dim=4, words=3,
    styles=("any", "oil"),
)  # fmt: skip


@pytest.fixture(scope="module")
def gpt() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(CONFIG).eval()
    for p in gpt.parameters():
        p.data.normal_(0, 0.3)
    return gpt


def sampler(gpt: GPT, seed: int = 0, n: int = 2, **options: object) -> Sampler:
    prefix = torch.randn(n, CONFIG.prefix, 16, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    return Sampler(gpt, prefix, 3, 4, generator=generator, unconditional=gpt.no_caption.expand(n, -1, -1), **options)


def drawn(job: Sampler) -> torch.Tensor:
    while job.position < job.total:
        job.step()
    return job.codes.clone()


def test_same_seed_same_codes_other_seed_other_codes(gpt: GPT) -> None:
    assert torch.equal(drawn(sampler(gpt, 1)), drawn(sampler(gpt, 1)))
    assert not torch.equal(drawn(sampler(gpt, 1)), drawn(sampler(gpt, 2)))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_stopped_draw_goes_on_to_the_same_codes(gpt: GPT, guidance: float) -> None:
    first = sampler(gpt, guidance=guidance)
    first.step()
    again = sampler(gpt, 77, guidance=guidance)
    again.load_state_dict(first.state_dict())
    assert torch.equal(drawn(again), drawn(first))


def test_greedy_codes_are_those_of_one_full_forward_a_code(gpt: GPT) -> None:
    job = sampler(gpt, temperature=0)
    codes = drawn(job).view(2, -1)
    for cell in range(12):
        with torch.no_grad():
            logits = gpt(codes[:, :cell], job.prefix)[:, -1]
        assert torch.equal(logits.argmax(-1), codes[:, cell])


def test_guidance_one_is_the_conditional_model_alone(gpt: GPT) -> None:
    assert torch.equal(drawn(sampler(gpt, temperature=0, guidance=1.0)), drawn(sampler(gpt, temperature=0)))
    assert not torch.equal(drawn(sampler(gpt, temperature=0, guidance=6.0)), drawn(sampler(gpt, temperature=0)))


def test_only_the_likeliest_stay() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    assert keep_top(logits, top_k=2).isfinite().tolist() == [[False, True, False, True]]
    assert keep_top(logits, top_p=0.69).isfinite().tolist() == [[False, True, False, True]]
    assert keep_top(logits, top_p=0.71).isfinite().tolist() == [[False, True, True, True]]
    assert keep_top(logits, top_p=1e-6).isfinite().sum() == 1


def test_a_grid_that_does_not_fit_is_refused(gpt: GPT) -> None:
    with pytest.raises(ValueError, match="4x4 does not fit"):
        Sampler(gpt, torch.zeros(1, CONFIG.prefix, 16), 4, 4, generator=torch.Generator())
