"""The distribution of the next code, negative log-likelihoods, and the sliding window."""

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


def test_next_code_probabilities_sum_to_one_and_agree_with_the_scorer(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    figure = NextCodeFigure(oranges, vqgan, gpt)
    assert torch.allclose(figure.probabilities.sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(figure.nats, code_nll(figure.codes, gpt), atol=1e-3)
    codes, probabilities = figure.top_codes(4, 5, count=3)
    assert int(codes[0]) == int(figure.probabilities[4, 5].argmax())
    assert probabilities.tolist() == sorted(probabilities, reverse=True)
    assert "<svg" in figure(0, 0).svg() and "<svg" in figure(11, 11).svg()


def test_predictions_do_not_depend_on_later_codes(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    changed = oranges.clone()
    changed[:, :, 80:] = 1.0
    first, second = (NextCodeFigure(image, vqgan, gpt) for image in (oranges, changed))
    first_difference = (first.codes != second.codes).flatten().nonzero()[0].item()
    difference = (first.probabilities - second.probabilities).abs().amax(-1).flatten()
    assert float(difference[: first_difference + 1].max()) < 1e-4
    assert float(difference[first_difference + 1 :].max()) > 1e-3


def test_shuffled_codes_are_less_likely_than_the_picture(oranges: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
    original, flipped, shuffled = score_variants(oranges, vqgan, gpt)
    assert shuffled.bits > original.bits + 1 and shuffled.bits > flipped.bits + 1
    assert sorted(shuffled.codes.flatten().tolist()) == sorted(original.codes.flatten().tolist())
    assert original.bits == float(original.nats.mean()) / math.log(2)
    assert "<svg" in nll_maps(oranges, vqgan, gpt).svg()


def test_the_sliding_window_figure_follows_the_samplers_window_in_raster_order() -> None:
    figure = SlidingWindowFigure(6, 20, 6, torch.zeros(3, 48, 160))
    window = Window(6, 20, 6, together=False)
    assert [figure.window_at(step)[0] for step in (0, 1, 20)] == [(0, 0), (0, 1), (1, 0)]
    for step in (0, 7, 119):
        (row, column), (top, left), known = figure.window_at(step)
        assert (top, left) == window.origin(row, column) and known == window.position(row, column)
        assert top <= row < top + 6 and left <= column < left + 6
    assert "<svg" in figure(50).svg()


def test_a_wide_picture_is_sampled_and_its_steps_are_shown(gpt: GPT, vqgan: VQGAN, clip: CLIP) -> None:
    box = sliding_window(gpt, vqgan, "a red apple", 1, height=2, width=13, clip=clip)
    slider, output = box.children
    assert slider.max == 25 and output.value.startswith("<svg")
