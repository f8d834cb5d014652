"""CLIP guidance step by step, on codes and on pixels, and phrasings of one noun."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqtools.illustrated.guidance import (
    PHRASE_TEMPLATES,
    GuidanceFigure,
    compare_renderers,
    record_guidance,
    sample_phrasings,
)
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.painting.clip_loss import spherical_distance


def test_recorded_distances_are_those_of_the_painters_loss(oranges: Tensor, vqgan: VQGAN, clip: CLIP) -> None:
    steps = record_guidance(oranges, vqgan, clip, "a red apple", iterations=3, cuts=4)
    assert [len(step.cutouts) for step in steps] == [4, 4, 4]
    for step in steps:
        assert float(step.distances.mean()) == pytest.approx(step.loss, rel=1e-3)
        assert step.update_norm.shape == (96, 96) and float(step.update_norm.min()) >= 0
    reconstruction = vqgan.decode(vqgan.encode(oranges))[0].clamp(-1, 1)
    assert torch.allclose(steps[0].picture, reconstruction, atol=1e-3)
    repeated = record_guidance(oranges, vqgan, clip, "a red apple", iterations=3, cuts=4)
    assert [step.loss for step in repeated] == [step.loss for step in steps]
    assert "<svg" in GuidanceFigure(steps)(2).svg()


def test_guidance_lowers_the_loss_on_codes_and_on_pixels(vqgan: VQGAN, clip: CLIP) -> None:
    codes, pixels = compare_renderers(vqgan, clip, "a red apple", iterations=8)
    for result in (codes, pixels):
        assert result.losses[-1] < result.losses[0]
    # optimised pixels are noise: neighbours differ strongly
    differences = [float(result.picture.diff(dim=2).abs().mean()) for result in (codes, pixels)]
    assert differences[1] > 3 * differences[0]


def test_the_same_seed_and_text_give_the_same_picture(vqgan: VQGAN, gpt: GPT, clip: CLIP) -> None:
    result = sample_phrasings(["a red apple", "a blue apple", "a red apple"], vqgan, gpt, clip, seed=3, grid=4)
    assert torch.equal(result.pictures[0], result.pictures[2])
    assert not torch.equal(result.pictures[0], result.pictures[1])
    assert float(result.similarities.abs().max()) <= 1 + 1e-5
    assert torch.allclose(result.similarities[:, 0], result.similarities[:, 2])
    text = clip.embed_text(result.texts)
    assert float(spherical_distance(text[0], text[2])) < 1e-5


def test_the_ten_phrasings_differ_and_use_the_article() -> None:
    texts = [template.format(thing="apple", a="an") for template in PHRASE_TEMPLATES]
    assert len(set(texts)) == 10 and "an apple on a plate" in texts and "a red apple" in texts
