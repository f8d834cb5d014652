"""Pixels, patches and codes of a picture, and the feature maps of the encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.illustrated import representations
from vqtools.illustrated.representations import pixels_to_codes, represent_image, select_channels, sobel_edges
from vqtools.models.vqgan import VQGAN


def test_patches_tile_the_picture_and_codes_are_those_of_the_vqgan(oranges: Tensor, vqgan: VQGAN) -> None:
    picture, f = represent_image(oranges, vqgan), vqgan.f
    rows = [torch.cat(list(row), 2) for row in picture.patches.split(96 // f)]
    assert torch.equal(torch.cat(rows, 1), oranges[0])
    assert torch.equal(picture.codes, vqgan.encode(oranges)[0])
    assert picture.bits == (96 * 96 * 24, 144 * 10)


def test_a_sobel_filter_responds_to_its_own_direction_only() -> None:
    image = torch.ones(1, 3, 16, 16)
    image[..., 8:] = -1  # a vertical edge
    vertical, horizontal = sobel_edges(image)
    assert float(vertical[2:-2, 2:-2].abs().max()) > 1
    assert float(horizontal[2:-2, 2:-2].abs().max()) == 0
    assert torch.equal(sobel_edges(image.transpose(2, 3))[1], vertical.T)


def test_feature_maps_are_the_encoders_outputs_and_depend_on_ever_more_pixels(oranges: Tensor, vqgan: VQGAN) -> None:
    layers = representations.feature_maps(oranges, vqgan)
    stem = F.pixel_unshuffle(oranges, vqgan.config.patch)
    assert torch.allclose(layers[0].maps, vqgan.encoder.conv_in(stem)[0], atol=1e-5)
    assert torch.allclose(layers[-1].maps, vqgan.encode_latents(oranges)[0], atol=1e-5)
    # count gradients above 1 % of the largest: through group norm every pixel has a small influence
    influential = [int((layer.input_gradient > layer.input_gradient.max() / 100).sum()) for layer in layers]
    assert influential == sorted(influential) and influential[0] < influential[-1] / 10
    assert not any(module._forward_hooks for module in vqgan.modules())


def test_selected_channels_are_not_duplicates_of_each_other() -> None:
    wave = torch.linspace(0, 6, 64).sin().view(8, 8)
    other = torch.linspace(0, 9, 64).cos().view(8, 8)
    maps = torch.stack([wave, 2 * wave, -3 * wave, 0.5 * other, torch.zeros(8, 8)])
    assert torch.equal(select_channels(maps, 2), torch.stack([-3 * wave, 0.5 * other]))


def test_figures_use_the_text_colour_of_the_page(oranges: Tensor, vqgan: VQGAN) -> None:
    svg = pixels_to_codes(oranges, vqgan).svg()
    assert svg.startswith("<svg") and svg.count("currentColor") > 20
    assert "#010203" not in svg and 'height="' not in svg.split(">")[0]
    assert "<svg" in representations.convolution(oranges, vqgan, count=5).svg()
