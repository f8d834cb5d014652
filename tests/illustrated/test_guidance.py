"""VQGAN makes, CLIP judges; the same guidance on pixels; phrasings."""

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


def test_the_opinions_shown_are_those_that_the_painter_goes_by(oranges: Tensor, vqgan: VQGAN, clip: CLIP) -> None:
    moments = record_guidance(oranges, vqgan, clip, "a red apple", iterations=3, cuts=4)
    assert [len(moment.views) for moment in moments] == [4, 4, 4]
    for moment in moments:
        assert float(moment.distances.mean()) == pytest.approx(moment.loss, rel=1e-3)
        assert moment.pull.shape == (96, 96) and float(moment.pull.min()) >= 0
    codes = vqgan.encode(oranges)
    assert torch.allclose(moments[0].picture, vqgan.decode(codes)[0].clamp(-1, 1), atol=1e-3)  # from the reader's own
    again = record_guidance(oranges, vqgan, clip, "a red apple", iterations=3, cuts=4)
    assert [m.loss for m in again] == [m.loss for m in moments]
    assert "<svg" in GuidanceFigure(moments)(2).svg()


def test_guidance_brings_codes_and_pixels_nearer_to_the_text(vqgan: VQGAN, clip: CLIP) -> None:
    codes, pixels = compare_renderers(vqgan, clip, "a red apple", iterations=8)
    for made in (codes, pixels):
        assert made.losses[-1] < made.losses[0]
    # noise: neighbouring pixels have nothing to do with each other
    rough = [float((one.picture[:, :, 1:] - one.picture[:, :, :-1]).abs().mean()) for one in (codes, pixels)]
    assert rough[1] > 3 * rough[0]


def test_one_seed_draws_the_same_for_the_same_words(vqgan: VQGAN, gpt: GPT, clip: CLIP) -> None:
    found = sample_phrasings(["a red apple", "a blue apple", "a red apple"], vqgan, gpt, clip, seed=3, grid=4)
    assert torch.equal(found.pictures[0], found.pictures[2])
    assert not torch.equal(found.pictures[0], found.pictures[1])
    text = clip.embed_text(found.texts)
    angle = 1 - found.fits[0, 1]  # |a − b|² = 2 − 2 cos
    assert 0 <= float(angle) <= 2 and torch.allclose(found.fits[:, 0], found.fits[:, 2])
    assert float(spherical_distance(text[0], text[2])) < 1e-5


def test_ten_phrasings_each_with_its_article() -> None:
    texts = [form.format(thing="apple", a="an") for form in PHRASE_TEMPLATES]
    assert len(set(texts)) == 10 and "an apple on a plate" in texts and "a red apple" in texts
