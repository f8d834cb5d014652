"""Figures of how a picture is represented: as pixels, patches and codes, and as the encoder's feature maps.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3. Images are (1, 3, H, W) in [-1, 1]. Knows nothing about the
transformer or CLIP.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.style import BLUE, ORANGE, RED, new_figure, outline, show, svg_figure, tile_images
from vqtools.models.vqgan import VQGAN


class ImageRepresentations(NamedTuple):
    """One picture as pixels, as patches and as codes."""

    image: Tensor  # (1, 3, H, W) in [-1, 1]
    patches: Tensor  # (h w, 3, f, f)
    codes: Tensor  # (h, w)
    bits: tuple[int, int]  # needed to store all pixels, and all codes


@torch.no_grad()
def represent_image(image: Tensor, vqgan: VQGAN) -> ImageRepresentations:
    """Return an image (1, 3, H, W) as pixels, as patches of f × f pixels, and as one code per patch."""
    f, codes = vqgan.f, vqgan.encode(image)[0]
    patches = F.unfold(image, f, stride=f)[0].T.reshape(-1, 3, f, f)
    bits_per_code = math.ceil(math.log2(vqgan.config.codebook_size))
    bits = (24 * image.shape[2] * image.shape[3], bits_per_code * codes.numel())
    return ImageRepresentations(image, patches, codes, bits)


@svg_figure
def pixels_to_codes(image: Tensor, vqgan: VQGAN) -> Figure:
    """Draw an image (1, 3, H, W) as pixels, patches and codes; below each, the values of one framed row."""
    shown, f = represent_image(image, vqgan), vqgan.f
    height, width = shown.codes.shape
    figure = new_figure(10.4, 5.4)
    upper, lower = figure.subplots(2, 3, gridspec_kw={"height_ratios": [3.2, 1]})
    row = height // 3
    show(upper[0], image, f"{image.shape[2] * image.shape[3]:,} pixels, {shown.bits[0] // 8:,} bytes")
    outline(upper[0], row * f, 0, f, image.shape[3])
    patches = tile_images(shown.patches, width, gap=max(1, f // 4))
    show(upper[1], patches, f"{height * width} patches of {f} × {f} pixels")
    show(upper[2], decode_codes(vqgan, shown.codes), f"{height * width} codes, {shown.bits[1] // 8:,} bytes")
    _write_codes(upper[2], shown.codes, f)
    brightness = image[0].mean(0)[row * f + f // 2].add(1).div(2)
    patch_means = shown.patches.mean((1, 2, 3)).view(height, width)[row].add(1).div(2)
    lower[0].plot(brightness.tolist(), color=BLUE)
    lower[0].set_title("brightness along the framed row")
    lower[1].step(range(width), patch_means.tolist(), where="mid", color=ORANGE)
    lower[1].set_title("mean brightness of each patch")
    lower[2].stem(range(width), shown.codes[row].tolist(), linefmt=RED, basefmt=" ", markerfmt="o")
    lower[2].set_title("codes: names, not quantities")
    for ax in lower[:2]:
        ax.set_ylim(0, 1.05)
    lower[2].set_ylim(0, vqgan.config.codebook_size)
    return figure


def _write_codes(ax: Axes, codes: Tensor, f: int) -> None:
    """Write each code (h, w) over its cell of a picture of f × f pixels per code."""
    height, width = codes.shape
    for row in range(height):
        for column in range(width):
            centre = ((column + 0.5) * f - 0.5, (row + 0.5) * f - 0.5)
            ax.annotate(
                str(int(codes[row, column])), centre, ha="center", va="center",
                fontsize=min(6.5, 100 / max(height, width)), color="black",
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.62, "linewidth": 0},
            )  # fmt: skip


@torch.no_grad()
def decode_codes(vqgan: VQGAN, codes: Tensor) -> Tensor:
    """Decode codes (h, w) to an image (3, H, W) in [-1, 1]."""
    image: Tensor = vqgan.decode(codes[None])[0].clamp(-1, 1)
    return image


class LayerResponse(NamedTuple):
    """Output of one layer of the encoder, and the pixels that influence its centre."""

    name: str
    maps: Tensor  # (c, h, w)
    input_gradient: Tensor  # (H, W), ≥ 0: gradient of the central cell's squared output with respect to each pixel


def sobel_edges(image: Tensor) -> Tensor:
    """Return the vertical and horizontal edges (2, H, W) of an image (1, 3, H, W). Sobel and Feldman 1968."""
    vertical = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return F.conv2d(image.mean(1, keepdim=True), torch.stack([vertical, vertical.T])[:, None], padding=1)[0]


def feature_maps(image: Tensor, vqgan: VQGAN) -> list[LayerResponse]:
    """Return the outputs of the encoder for an image (1, 3, H, W), from its first convolution to the latents."""
    encoder: Any = vqgan.encoder
    layers = [("first convolution", encoder.conv_in)]
    layers += [(f"level {i + 1}", level.block[-1]) for i, level in enumerate(encoder.down)]
    layers += [("middle", encoder.mid), ("latents ẑ", vqgan.quant_conv)]
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    hooks = [module.register_forward_hook(keep(name)) for name, module in layers]
    pixels = image.clone().requires_grad_()
    try:
        with torch.enable_grad():
            vqgan.encode_latents(pixels)
            responses = []
            for name, _ in layers:
                maps = outputs[name]
                centre = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
                (gradient,) = torch.autograd.grad(centre.square().sum(), pixels, retain_graph=True)
                responses.append(LayerResponse(name, maps.detach()[0], gradient.abs().sum(1)[0]))
    finally:
        for hook in hooks:
            hook.remove()
    return responses


def select_channels(maps: Tensor, count: int) -> Tensor:
    """Return the channels (count, h, w) of maps (c, h, w) with the largest variance, leaving out near duplicates.

    A channel whose correlation with a selected one is 0.8 or more is taken only if there are not enough others.
    """
    flat = maps.flatten(1)
    standardised = F.normalize(flat - flat.mean(1, keepdim=True), dim=1)
    selected: list[int] = []
    for index in flat.var(1).argsort(descending=True).tolist():
        if all(float((standardised[index] @ standardised[other]).abs()) < 0.8 for other in selected):
            selected.append(index)
        if len(selected) == count:
            break
    others = [i for i in range(len(maps)) if i not in selected]
    return maps[(selected + others)[:count]]


@svg_figure
def convolution(image: Tensor, vqgan: VQGAN, count: int = 6) -> Figure:
    """Draw the output of two Sobel filters, and ``count`` feature maps of each layer with the pixels they depend on."""
    layers = feature_maps(image, vqgan)
    figure = new_figure(10.4, 1.42 * (len(layers) + 1))
    grid = figure.subplots(len(layers) + 1, count + 1)
    for ax in grid.flat:
        ax.set_axis_off()
    show(grid[0, 0], image, "the picture")
    for ax, edges, name in zip(grid[0, 1:], sobel_edges(image), ("vertical", "horizontal"), strict=False):
        show(ax, edges, f"{name} edges\n(Sobel filter)", cmap="RdBu", vmin=-4, vmax=4)
    legend = "Left column: the pixels that influence\nthe central cell of a layer.\n"
    legend += "Other columns: feature maps, blue above\nand red below the mean of the map."
    note = grid[0, 3].text(0.0, 0.5, legend, transform=grid[0, 3].transAxes, va="center", fontsize=9)
    note.set_in_layout(False)  # it extends over empty cells, and must not widen its column
    for axes, layer in zip(grid[1:], layers, strict=True):
        height, width = layer.maps.shape[1:]
        influence = (layer.input_gradient / layer.input_gradient.max()).clamp(0, 1).sqrt()
        show(axes[0], image[0] * 0.35 + 0.65)
        axes[0].imshow(influence.numpy(), cmap="magma_r", alpha=(influence > 0.15).float().numpy() * 0.9)
        axes[0].set_title(f"{layer.name}\n{len(layer.maps)} × {height} × {width}", fontsize=8)
        for ax, plane in zip(axes[1:], select_channels(layer.maps, count), strict=True):
            limit = float((plane - plane.mean()).abs().max()) or 1.0
            show(ax, plane - plane.mean(), cmap="RdBu", vmin=-limit, vmax=limit)
    return figure
