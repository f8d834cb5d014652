"""The likelihood of grids of codes."""

import math

import torch

from vqtools.core.job import finish
from vqtools.models.gpt import GPT, GPTConfig
from vqtools.sampling.condition import Condition
from vqtools.sampling.likelihood import Scorer


def test_probabilities_of_all_pictures_sum_to_one() -> None:
    gpt = GPT(GPTConfig(vocab_size=2, block_size=5, layers=1, heads=1, width=8, grid=2, prefix_codes=1)).eval()
    for p in gpt.parameters():
        p.data.normal_()
    codes = torch.tensor([[int(bit) for bit in f"{n:06b}"] for n in range(64)]).view(64, 3, 2)
    start = gpt.embed_prefix_codes(torch.zeros(64, 1, dtype=torch.int64)).detach()
    scorer = finish(Scorer(gpt, codes, Condition(start)))
    assert math.isclose(float((-scorer.nats.sum((1, 2))).exp().sum()), 1, abs_tol=1e-4)
