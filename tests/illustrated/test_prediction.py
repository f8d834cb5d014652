"""The next code, likelihood and surprise, and the walking window."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqtools.illustrated.prediction import (
    NextCodeFigure,
    SlidingWindowFigure,
    code_nll,
    nll_maps,
    score_variants,
    sliding_window,
)
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.window import Window


def test_the_distribution_is_one_and_its_likelihood_is_the_scorers(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    told = NextCodeFigure(oranges, vqgan, gpt)
    assert torch.allclose(told.probabilities.sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(told.nats, code_nll(told.codes, gpt), atol=1e-3)
    likely, share = told.top_codes(4, 5, count=3)
    assert int(likely[0]) == int(told.probabilities[4, 5].argmax()) and share.tolist() == sorted(share, reverse=True)
    assert "<svg" in told(0, 0).svg() and "<svg" in told(11, 11).svg()


def test_what_comes_later_changes_nothing(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    other = oranges.clone()
    other[:, :, 80:] = 1.0
    first, second = (NextCodeFigure(one, vqgan, gpt) for one in (oranges, other))
    differ = (first.codes != second.codes).flatten().nonzero()[0].item()
    same = (first.probabilities - second.probabilities).abs().amax(-1).flatten()
    assert float(same[: differ + 1].max()) < 1e-4 and float(same[differ + 1 :].max()) > 1e-3


def test_shuffled_codes_are_less_likely_than_the_picture(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    own, turned, shuffled = score_variants(oranges, vqgan, gpt)
    assert shuffled.bits > own.bits + 1 and shuffled.bits > turned.bits + 1
    assert sorted(shuffled.codes.flatten().tolist()) == sorted(own.codes.flatten().tolist())
    assert own.bits == float(own.nats.mean()) / math.log(2)
    assert "<svg" in nll_maps(oranges, vqgan, gpt).svg()


def test_the_walk_is_the_windows_in_raster_order() -> None:
    walk = SlidingWindowFigure(6, 20, 6, torch.zeros(3, 48, 160))
    window = Window(6, 20, 6, together=False)
    assert [walk.at(step)[0] for step in (0, 1, 20)] == [(0, 0), (0, 1), (1, 0)]
    for step in (0, 7, 119):
        (row, column), (top, left), known = walk.at(step)
        assert (top, left) == window.origin(row, column) and known == window.position(row, column)
        assert top <= row < top + 6 and left <= column < left + 6
    assert "<svg" in walk(50).svg()


def test_a_wide_picture_is_drawn_and_walked(gpt: GPT, vqgan: VQGAN, clip: CLIP) -> None:
    box = sliding_window(gpt, vqgan, "a red apple", 1, height=2, width=13, clip=clip)
    slider, place = box.children
    assert slider.max == 25 and place.value.startswith("<svg")
