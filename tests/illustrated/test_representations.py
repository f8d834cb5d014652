"""A picture as pixels, patches and symbols; what convolutions see."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.illustrated import representations
from vqtools.illustrated.representations import pixels_to_codes, represent_image, select_channels, sobel_edges
from vqtools.models.vqgan import VQGAN


def test_patches_laid_side_by_side_are_the_picture_and_codes_are_the_vqgans(oranges: Tensor, vqgan: VQGAN) -> None:
    seen, f = represent_image(oranges, vqgan), vqgan.f
    rows = [torch.cat(list(row), 2) for row in seen.patches.split(96 // f)]
    assert torch.equal(torch.cat(rows, 1), oranges[0])
    assert torch.equal(seen.codes, vqgan.encode(oranges)[0])
    assert seen.bits == (96 * 96 * 24, 144 * 10)


def test_edges_by_hand_answer_to_their_own_direction_alone() -> None:
    stripes = torch.ones(1, 3, 16, 16)
    stripes[..., 8:] = -1  # an upright edge
    upright, level = sobel_edges(stripes)
    assert float(upright[2:-2, 2:-2].abs().max()) > 1
    assert float(level[2:-2, 2:-2].abs().max()) == 0
    assert torch.equal(sobel_edges(stripes.transpose(2, 3))[1], upright.T)


def test_feature_maps_are_the_encoders_own_and_each_layer_looks_further(oranges: Tensor, vqgan: VQGAN) -> None:
    layers = representations.feature_maps(oranges, vqgan)
    stem = F.pixel_unshuffle(oranges, vqgan.config.patch)
    assert torch.allclose(layers[0].maps, vqgan.encoder.conv_in(stem)[0], atol=1e-5)
    assert torch.allclose(layers[-1].maps, vqgan.encode_latents(oranges)[0], atol=1e-5)
    # pixels that matter more than a hundredth of the one that matters most: a group norm lets all of them matter a bit
    seen = [int((layer.reach > layer.reach.max() / 100).sum()) for layer in layers]
    assert seen == sorted(seen) and seen[0] < seen[-1] / 10
    assert not any(module._forward_hooks for module in vqgan.modules())


def test_the_most_telling_maps_are_no_copies_of_each_other() -> None:
    wave = torch.linspace(0, 6, 64).sin().view(8, 8)
    other = torch.linspace(0, 9, 64).cos().view(8, 8)
    maps = torch.stack([wave, 2 * wave, -3 * wave, 0.5 * other, torch.zeros(8, 8)])
    assert torch.equal(select_channels(maps, 2), torch.stack([-3 * wave, 0.5 * other]))


def test_the_figures_are_drawn_in_the_pages_ink(oranges: Tensor, vqgan: VQGAN) -> None:
    svg = pixels_to_codes(oranges, vqgan).svg()
    assert svg.startswith("<svg") and svg.count("currentColor") > 20
    assert "#010203" not in svg and 'height="' not in svg.split(">")[0]
    assert "<svg" in representations.convolution(oranges, vqgan, count=5).svg()
