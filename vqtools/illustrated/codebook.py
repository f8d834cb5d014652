"""Figures of the codebook: k-means and learned, all entries and where they are used, edited codes, nearest codes.

van den Oord et al. 2017, arXiv 1711.00937; Esser, Rombach, Ommer 2021, section 3.1. Images are (n, 3, H, W) in
[-1, 1]; k codes of c dimensions. Knows nothing about training or the transformer.
"""

from __future__ import annotations

import colorsys
import math
from typing import Any, NamedTuple

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vqtools.illustrated.cell_picker import pick_cell
from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.representations import decode_codes
from vqtools.illustrated.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    new_figure,
    outline,
    show,
    svg_figure,
    tile_images,
)
from vqtools.media.image import to_picture
from vqtools.models.quantizers import kmeans, nearest_codes, straight_through
from vqtools.models.vqgan import VQGAN

CODEBOOK_2D = torch.tensor(
    [[-1.5, 0.9], [-0.7, -1.1], [0.1, 0.4], [0.6, 1.4], [1.3, -0.3], [-1.7, -0.5], [0.4, -1.5], [1.8, 0.9], [-0.6, 1.6]]
)
"""Nine codes of two numbers, for the figure of the nearest code."""
_TARGET_2D = torch.tensor([1.9, 1.8])  # of the loss in that figure
_LIMIT_2D = 2.4  # its axes go from -2.4 to 2.4
_REGION_SAMPLES = 320  # points per axis at which the nearest code is computed


class PatchCodebook(NamedTuple):
    """A codebook of a picture's own patches, found by k-means."""

    centres: Tensor  # (k, 3, f, f)
    codes: Tensor  # (h, w)
    picture: Tensor  # (3, H, W), each patch replaced by its nearest centre
    psnr: float  # dB


def psnr(a: Tensor, b: Tensor) -> float:
    """Return the peak signal-to-noise ratio of two images in [-1, 1] in dB; infinity if they are equal."""
    error = float((a.clamp(-1, 1) - b.clamp(-1, 1)).div(2).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


@torch.no_grad()
def patch_codebook(image: Tensor, k: int, f: int = 8) -> PatchCodebook:
    """Run k-means on the f × f patches of an image (1, 3, H, W); the centres are the codebook."""
    height, width = image.shape[2] // f, image.shape[3] // f
    vectors = F.unfold(image, f, stride=f)[0].T
    k = min(k, len(vectors))
    # with one centre per patch the patches are the exact answer, which Lloyd's algorithm may miss
    centres = vectors if k == len(vectors) else kmeans(vectors, k, torch.Generator().manual_seed(0), iterations=20)
    codes = nearest_codes(vectors, centres)
    picture = F.fold(centres[codes].T[None], image.shape[2:], f, stride=f)[0]
    return PatchCodebook(centres.view(k, 3, f, f), codes.view(height, width), picture, psnr(picture, image[0]))


@svg_figure
def _kmeans_figure(image: Tensor, learned: Tensor, used: int, k: int, f: int) -> Figure:
    """Draw an image beside k-means centres, the image rebuilt from them, and its reconstruction by a VQGAN."""
    book = patch_codebook(image, k, f)
    figure = new_figure(10.4, 3.1)
    axes = figure.subplots(1, 4)
    show(axes[0], image, "the picture")
    by_count = torch.bincount(book.codes.flatten(), minlength=len(book.centres)).argsort(descending=True)
    columns = max(2, math.ceil(math.sqrt(len(by_count))))
    show(axes[1], tile_images(book.centres[by_count], columns), f"K = {len(by_count)} centres\nof its patches")
    show(axes[2], book.picture, f"rebuilt from the centres,\nPSNR {book.psnr:.1f} dB")
    show(axes[3], learned, f"learned codebook, {used} codes,\nPSNR {psnr(learned, image[0]):.1f} dB")
    return figure


def kmeans_codebook(image: Tensor, vqgan: VQGAN, start: int = 16) -> widgets.VBox:
    """Return the k-means codebook of an image (1, 3, H, W), with a slider for K, beside the VQGAN's reconstruction."""
    with torch.no_grad():
        codes = vqgan.encode(image)[0]
    learned, used = decode_codes(vqgan, codes), len(torch.unique(codes))
    return interactive_figure(
        lambda k: _kmeans_figure(image, learned, used, k, vqgan.f), k=slider("K", 1, codes.numel(), start, live=False)
    )


@torch.no_grad()
def decode_each_code(vqgan: VQGAN, codes: Tensor | None = None) -> Tensor:
    """Decode each code, surrounded by copies of itself, to an image (k, 3, f, f): all codes, or those given (k,)."""
    f = vqgan.f
    codes = torch.arange(vqgan.config.codebook_size) if codes is None else codes
    batches = [vqgan.decode(part.view(-1, 1, 1).expand(-1, 3, 3)).clamp(-1, 1) for part in torch.split(codes, 256)]
    return torch.cat(batches)[:, :, f : 2 * f, f : 2 * f]


def sort_by_colour(images: Tensor, columns: int) -> Tensor:
    """Return an order (k,) of images (k, 3, h, w) in rows of ``columns``: rows from dark to light, each row by hue."""
    mean = images.mean((2, 3)).add(1).div(2)
    order = mean.sum(1).argsort()
    rows = [
        sorted(part.tolist(), key=lambda i: colorsys.rgb_to_hsv(*mean[i].tolist())[0])
        for part in torch.split(order, columns)
    ]
    return torch.tensor([i for row in rows for i in row])


def colourfulness(images: Tensor) -> Tensor:
    """Return how far the mean colour of each image (k, 3, h, w) is from grey: values (k,) in [0, 2]."""
    mean = images.mean((2, 3))
    return mean.amax(1) - mean.amin(1)


def find_patches(code: int, images: Tensor, codes: Tensor, margin: int = 1) -> Tensor:
    """Return the crops (n, 3, s, s) of images around each use of a code, s = f (1 + 2 margin) pixels.

    images (b, 3, H, W) and their codes (b, h, w). Borders are repeated where a crop extends beyond the image.
    """
    f = images.shape[2] // codes.shape[1]
    padded = F.pad(images, [margin * f] * 4, mode="replicate")
    side = f * (1 + 2 * margin)
    cells = (codes == code).nonzero().tolist()
    crops = [padded[b, :, r * f : r * f + side, c * f : c * f + side] for b, r, c in cells]
    return torch.stack(crops) if crops else images.new_zeros(0, 3, side, side)


class CodebookFigure:
    """All codes of a codebook, decoded and sorted by colour; call it with a cell of this atlas to draw one code's uses.

    Uses are counted in ``images`` (b, 3, H, W).
    """

    def __init__(self, vqgan: VQGAN, images: Tensor) -> None:
        self.vqgan, self.images = vqgan, images
        with torch.no_grad():
            self.codes = torch.cat([vqgan.encode(part) for part in torch.split(images, 16)])
        self.tiles = decode_each_code(vqgan)
        self.columns = math.ceil(math.sqrt(len(self.tiles)))
        self.order = sort_by_colour(self.tiles, self.columns)
        self.counts = torch.bincount(self.codes.flatten(), minlength=len(self.tiles))

    @property
    def rows(self) -> int:
        """Rows of the atlas."""
        return -(-len(self.tiles) // self.columns)

    @property
    def picture(self) -> Image.Image:
        """The atlas of (rows · f) × (columns · f) pixels, one tile per code."""
        blank = self.tiles.new_ones(self.rows * self.columns - len(self.tiles), *self.tiles.shape[1:])
        grid = torch.cat([self.tiles[self.order], blank]).view(self.rows, self.columns, 3, *self.tiles.shape[2:])
        return to_picture(grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2))

    def position_of(self, code: int) -> tuple[int, int]:
        """Return the row and column of a code in the atlas."""
        index = int((self.order == code).nonzero()[0, 0])
        return divmod(index, self.columns)

    def code_at(self, row: int, column: int) -> int:
        """Return the code at a cell of the atlas; the last code for the blank cells at its end."""
        return int(self.order[min(row * self.columns + column, len(self.order) - 1)])

    @svg_figure
    def __call__(self, row: int, column: int) -> Figure:
        """Draw the code at a cell of the atlas: its image, its vector, how often it is used and where."""
        code = self.code_at(row, column)
        crops = find_patches(code, self.images, self.codes)
        figure = new_figure(10.4, 2.6)
        axes = figure.subplots(1, 4, gridspec_kw={"width_ratios": [0.7, 1.2, 1.2, 2.8]})
        vector = self.vqgan.codebook[code].tolist()
        show(axes[0], self.tiles[code], f"code {code}")
        axes[1].bar(range(len(vector)), vector, color=BLUE)
        axes[1].set_title(f"its vector of {len(vector)} numbers" if len(vector) > 1 else "its vector")
        axes[1].axhline(0, color=INK, linewidth=0.5)
        ranked = self.counts.sort(descending=True)
        axes[2].fill_between(range(1, len(ranked.values) + 1), ranked.values.tolist(), color=GREY, alpha=0.5)
        rank = int((ranked.indices == code).nonzero()[0, 0]) + 1
        axes[2].plot([rank], [int(self.counts[code])], "o", color=RED)
        axes[2].set_yscale("symlog")
        axes[2].set_xlabel("codes, most used first", fontsize=8)
        axes[2].set_title(f"used {int(self.counts[code])} times: rank {rank}")
        if len(crops):
            examples = crops[:: max(1, len(crops) // 24)][:24]
            show(axes[3], tile_images(examples, 8, gap=2), "where it is used, with its surroundings")
        else:
            axes[3].set_axis_off()
            axes[3].set_title("not used in these pictures")
        return figure


def codebook_atlas(vqgan: VQGAN, images: Tensor) -> widgets.VBox:
    """Return a clickable atlas of all codes: each code's vector, and how often and where ``images`` use it."""
    book = CodebookFigure(vqgan, images)
    # start at a code that is colourful as well as frequent: the most frequent ones are plain background
    start = book.position_of(int((book.counts.clamp(max=24) * colourfulness(book.tiles)).argmax()))
    return pick_cell(book, book.picture, book.rows, book.columns, start, width=384)


class CodeSwapFigure:
    """The codes of an image (1, 3, H, W), one of them replaced; call it with a cell and a new code to draw it."""

    def __init__(self, image: Tensor, vqgan: VQGAN) -> None:
        self.image, self.vqgan = image, vqgan
        with torch.no_grad():
            self.codes = vqgan.encode(image)[0]

    def swapped(self, row: int, column: int, code: int, everywhere: bool = True) -> Tensor:
        """Return the codes (h, w) with the code of a cell replaced, wherever it occurs or in that cell alone."""
        if everywhere:
            return torch.where(self.codes == self.codes[row, column], code, self.codes)
        codes = self.codes.clone()
        codes[row, column] = code
        return codes

    @svg_figure
    def __call__(self, row: int, column: int, code: int, everywhere: bool) -> Figure:
        """Draw the decoded picture before and after the change, their difference, and both codes."""
        f, new = self.vqgan.f, self.swapped(row, column, code, everywhere)
        before, after = decode_codes(self.vqgan, self.codes), decode_codes(self.vqgan, new)
        changed = new != self.codes
        figure = new_figure(10.4, 3.0)
        axes = figure.subplots(1, 4, gridspec_kw={"width_ratios": [1, 1, 1, 0.55]})
        show(axes[0], before, "decoded from the codes")
        for r, c in changed.nonzero().tolist():
            outline(axes[0], r * f, c * f, f, f, RED)
        old = int(self.codes[row, column])
        show(axes[1], after, f"code {old} → {code} in {int(changed.sum())} cells")
        difference = (after - before).abs().mean(0)
        show(axes[2], difference, "absolute difference", cmap="magma", vmin=0)
        both = decode_each_code(self.vqgan, torch.tensor([old, code]))
        show(axes[3], tile_images(both, 1, gap=4), f"{old} above\n{code} below")
        return figure


def swap_code(image: Tensor, vqgan: VQGAN) -> widgets.VBox:
    """Return an image (1, 3, H, W) whose codes can be replaced: click a cell and choose a new code."""
    figure, tiles = CodeSwapFigure(image, vqgan), decode_each_code(vqgan)
    k = vqgan.config.codebook_size
    # start with a frequent and colourful code, replaced by one of the opposite colour
    counts = torch.bincount(figure.codes.flatten(), minlength=k)
    old = int((counts * colourfulness(tiles)).argmax())
    row, column = (figure.codes == old).nonzero()[0].tolist()
    colours = tiles.mean((2, 3))
    new = int((colours + colours[old]).square().sum(1).argmin())
    controls = {
        "code": slider("new code", 0, k - 1, new),
        "everywhere": widgets.Checkbox(value=True, description="replace it wherever it occurs", indent=False),
    }
    height, width = figure.codes.shape
    return pick_cell(figure, to_picture(image), height, width, (row, column), **controls)


class StraightThroughExample(NamedTuple):
    """A latent ẑ quantized to its nearest code z_q, and the gradients of a loss on both."""

    code: int
    z_q: Tensor  # (2,)
    code_gradient: Tensor  # (2,) at z_q
    straight_through_gradient: Tensor  # (2,) at ẑ, as the straight-through estimator gives it
    true_gradient: Tensor  # (2,) at ẑ: zero, since z_q is piecewise constant in ẑ


def straight_through_example(latent: Tensor, target: Tensor, codebook: Tensor = CODEBOOK_2D) -> StraightThroughExample:
    """Quantize a latent (2,) to the nearest of the codes (k, 2), and differentiate the loss ½‖z_q − target‖²."""
    z = latent.clone().requires_grad_()
    code = nearest_codes(z.detach()[None], codebook)
    z_q = codebook[code][0].clone().requires_grad_()
    loss = (straight_through(z, z_q) - target).square().sum() / 2
    (straight_through_gradient,) = torch.autograd.grad(loss, z)
    (code_gradient,) = torch.autograd.grad((z_q - target).square().sum() / 2, z_q)
    return StraightThroughExample(
        int(code), z_q.detach(), code_gradient, straight_through_gradient, torch.zeros_like(latent)
    )


@svg_figure
def _straight_through_figure(x: int, y: int) -> Figure:
    """Draw ẑ = (x, y) / 10, the region of each code, and the gradient at z_q and at ẑ."""
    latent = torch.tensor([x / 10, y / 10])
    example = straight_through_example(latent, _TARGET_2D)
    figure = new_figure(7.4, 5.6)
    ax = figure.subplots()
    _draw_regions(ax)
    ax.plot(*example.z_q.tolist(), "s", color=GREEN, markersize=13)
    ax.plot(*latent.tolist(), "o", color=BLUE, markersize=11)
    ax.plot(*_TARGET_2D.tolist(), "*", color=ORANGE, markersize=16)
    quantization = {"arrowstyle": "-|>", "linestyle": "--", "color": GREEN, "linewidth": 1.5, "mutation_scale": 14}
    _arrow(ax, latent, example.z_q, quantization | {"shrinkA": 6, "shrinkB": 7})
    descent = {"arrowstyle": "-|>", "color": RED, "linewidth": 2, "mutation_scale": 14, "shrinkA": 6, "shrinkB": 0}
    _arrow(ax, example.z_q, example.z_q - 0.3 * example.code_gradient, descent)
    _arrow(ax, latent, latent - 0.3 * example.straight_through_gradient, descent)
    ax.annotate("ẑ", _xy(latent), xytext=(-16, -14), textcoords="offset points", color=BLUE, fontsize=13)
    ax.annotate(
        "target", _xy(_TARGET_2D), xytext=(-2, -18), textcoords="offset points", color=ORANGE, ha="center"
    )  # fmt: skip
    ax.set_title(
        f"forward: $z_q = z_{example.code}$, the nearest code (green)\n"
        "backward: ẑ gets the gradient at $z_q$ unchanged (red: two equal arrows)"
    )
    return figure


def _draw_regions(ax: Axes) -> None:
    """Draw the codes of CODEBOOK_2D and the region in which each is the nearest."""
    span = torch.linspace(-_LIMIT_2D, _LIMIT_2D, _REGION_SAMPLES)
    points = torch.cartesian_prod(span, span).flip(1)
    regions = nearest_codes(points, CODEBOOK_2D).view(_REGION_SAMPLES, _REGION_SAMPLES)
    extent = (-_LIMIT_2D, _LIMIT_2D, -_LIMIT_2D, _LIMIT_2D)
    show(ax, regions, cmap="tab20", alpha=0.16, extent=extent, origin="lower")
    borders = torch.arange(len(CODEBOOK_2D)).add(0.5).tolist()
    ax.contour(span, span, regions, levels=borders, colors=GREY, linewidths=0.4)
    ax.plot(*CODEBOOK_2D.T.tolist(), "s", color=GREY, markersize=9)
    for index, position in enumerate(CODEBOOK_2D.tolist()):
        ax.annotate(f"$z_{index}$", position, xytext=(7, 7), textcoords="offset points", fontsize=11)


def _arrow(ax: Axes, start: Tensor, end: Tensor, style: dict[str, Any]) -> None:
    """Draw an arrow between two points (2,)."""
    ax.annotate("", _xy(end), _xy(start), arrowprops=style)


def _xy(point: Tensor) -> tuple[float, float]:
    """Return a point (2,) as a tuple, as matplotlib's annotate expects it."""
    return float(point[0]), float(point[1])


def choose_nearest() -> widgets.VBox:
    """Return a figure of the nearest code in two dimensions and its gradients, with sliders that move ẑ."""
    return interactive_figure(
        _straight_through_figure, x=slider("ẑ, x × 10", -23, 23, -4), y=slider("ẑ, y × 10", -23, 23, -2)
    )
