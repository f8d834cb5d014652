"""Seeing: a picture as light, as patches and as symbols, and what convolutions see in it.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3. Images are (1, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.style import BLUE, ORANGE, RED, new_figure, outline, show, svg_figure, tile_images
from vqtools.models.vqgan import VQGAN


class ImageRepresentations(NamedTuple):
    """One picture, told in three ways."""

    image: Tensor  # (1, 3, H, W) in [-1, 1]
    patches: Tensor  # (h w, 3, f, f)
    codes: Tensor  # (h, w)
    bits: tuple[int, int]  # to write down all pixels, and all codes


@torch.no_grad()
def represent_image(image: Tensor, vqgan: VQGAN) -> ImageRepresentations:
    """An image as pixels, as patches of f × f pixels, and as one symbol a patch."""
    f, codes = vqgan.f, vqgan.encode(image)[0]
    patches = F.unfold(image, f, stride=f)[0].T.reshape(-1, 3, f, f)
    one = math.ceil(math.log2(vqgan.config.codebook_size))
    return ImageRepresentations(image, patches, codes, (24 * image.shape[2] * image.shape[3], one * codes.numel()))


@svg_figure
def pixels_to_codes(image: Tensor, vqgan: VQGAN) -> Figure:
    """Above: sensed as pixels, cut into patches, perceived as symbols. Below: one row of each."""
    seen, f = represent_image(image, vqgan), vqgan.f
    height, width = seen.codes.shape
    figure = new_figure(10.4, 5.4)
    upper, lower = figure.subplots(2, 3, gridspec_kw={"height_ratios": [3.2, 1]})
    row = height // 3
    pixel_count, code_count = f"{image.shape[2] * image.shape[3]:,} pixels", f"{height * width} symbols"
    show(upper[0], image, f"sensing: {pixel_count}, {seen.bits[0] // 8:,} bytes")
    outline(upper[0], row * f, 0, f, image.shape[3])
    show(
        upper[1], tile_images(seen.patches, width, gap=max(1, f // 4)), f"{height * width} patches of {f} × {f} pixels"
    )
    show(upper[2], decode_codes(vqgan, seen.codes), f"perceiving: {code_count}, {seen.bits[1] // 8:,} bytes")
    size = min(6.5, 100 / max(height, width))
    for r in range(height):
        for c in range(width):
            place = ((c + 0.5) * f - 0.5, (r + 0.5) * f - 0.5)
            upper[2].annotate(
                str(int(seen.codes[r, c])), place, ha="center", va="center", fontsize=size, color="black",
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.62, "linewidth": 0},
            )  # fmt: skip
    light = image[0].mean(0)[row * f + f // 2].add(1).div(2)
    mean = seen.patches.mean((1, 2, 3)).view(height, width)[row].add(1).div(2)
    lower[0].plot(light.tolist(), color=BLUE)
    lower[0].set_title("brightness along the frame: a curve")
    lower[1].step(range(width), mean.tolist(), where="mid", color=ORANGE)
    lower[1].set_title("mean of each patch: steps, any height")
    lower[2].stem(range(width), seen.codes[row].tolist(), linefmt=RED, basefmt=" ", markerfmt="o")
    lower[2].set_title("symbols: names; 511 is not nearly 512")
    for ax in lower[:2]:
        ax.set_ylim(0, 1.05)
    lower[2].set_ylim(0, vqgan.config.codebook_size)
    return figure


@torch.no_grad()
def decode_codes(vqgan: VQGAN, codes: Tensor) -> Tensor:
    """Codes (h, w) -> the image (3, H, W) that they stand for, in [-1, 1]."""
    image: Tensor = vqgan.decode(codes[None])[0].clamp(-1, 1)
    return image


class LayerResponse(NamedTuple):
    """What one layer of the encoder answers."""

    name: str
    maps: Tensor  # (c, h, w)
    reach: Tensor  # (H, W) at least 0: how much each pixel moves the answer in the middle


def sobel_edges(image: Tensor) -> Tensor:
    """Two convolutions written by hand: upright and level edges (2, H, W). Sobel and Feldman 1968."""
    upright = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return F.conv2d(image.mean(1, keepdim=True), torch.stack([upright, upright.T])[:, None], padding=1)[0]


def feature_maps(image: Tensor, vqgan: VQGAN) -> list[LayerResponse]:
    """The encoder's answers from its first convolution to its last, and what each looks at."""
    encoder: Any = vqgan.encoder
    named = [("first convolution", encoder.conv_in)]
    named += [(f"level {i + 1}", level.block[-1]) for i, level in enumerate(encoder.down)]
    named += [("middle", encoder.mid), ("latents ẑ", vqgan.quant_conv)]
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: kept.__setitem__(name, output)

    hooks = [module.register_forward_hook(keep(name)) for name, module in named]
    seen = image.clone().requires_grad_()
    try:
        with torch.enable_grad():
            vqgan.encode_latents(seen)
            layers = []
            for name, _ in named:
                maps = kept[name]
                middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
                (gradient,) = torch.autograd.grad(middle.square().sum(), seen, retain_graph=True)
                layers.append(LayerResponse(name, maps.detach()[0], gradient.abs().sum(1)[0]))
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def select_channels(maps: Tensor, count: int) -> Tensor:
    """The channels (count, h, w) of maps (c, h, w) that vary most over the picture, no two of them alike."""
    flat = maps.flatten(1)
    plain = F.normalize(flat - flat.mean(1, keepdim=True), dim=1)
    chosen: list[int] = []
    for index in flat.var(1).argsort(descending=True).tolist():
        if all(float((plain[index] @ plain[other]).abs()) < 0.8 for other in chosen):
            chosen.append(index)
        if len(chosen) == count:
            break
    rest = [i for i in range(len(maps)) if i not in chosen]
    return maps[(chosen + rest)[:count]]


@svg_figure
def convolution(image: Tensor, vqgan: VQGAN, count: int = 6) -> Figure:
    """Feature maps layer by layer: edges by hand, then what the encoder has learned to see, and how far each looks."""
    layers = feature_maps(image, vqgan)
    figure = new_figure(10.4, 1.42 * (len(layers) + 1))
    grid = figure.subplots(len(layers) + 1, count + 1)
    for ax in grid.flat:
        ax.set_axis_off()
    show(grid[0, 0], image, "the picture")
    for ax, plane, name in zip(grid[0, 1:], sobel_edges(image), ("upright", "level"), strict=False):
        show(ax, plane, f"{name} edges\nby hand", cmap="RdBu", vmin=-4, vmax=4)
    words = "red above, blue below a map's mean;\nleft: the pixels that the answer in\n"
    words += "the middle of each layer depends on"
    note = grid[0, 3].text(0.0, 0.5, words, transform=grid[0, 3].transAxes, va="center", fontsize=9)
    note.set_in_layout(False)  # it runs over empty cells: the columns stay as wide as the others
    for axes, layer in zip(grid[1:], layers, strict=True):
        height, width = layer.maps.shape[1:]
        share = (layer.reach / layer.reach.max()).clamp(0, 1).sqrt()
        show(axes[0], image[0] * 0.35 + 0.65)
        axes[0].imshow(share.numpy(), cmap="magma_r", alpha=(share > 0.15).float().numpy() * 0.9)
        axes[0].set_title(f"{layer.name}\n{len(layer.maps)} × {height} × {width}", fontsize=8)
        for ax, plane in zip(axes[1:], select_channels(layer.maps, count), strict=True):
            far = float((plane - plane.mean()).abs().max()) or 1.0
            show(ax, plane - plane.mean(), cmap="RdBu", vmin=-far, vmax=far)
    return figure
