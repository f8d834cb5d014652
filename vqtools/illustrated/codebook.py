"""The codebook: by k-means and learned, all of its entries, where they are used, and what happens when they change.

van den Oord et al. 2017, arXiv 1711.00937; Esser, Rombach, Ommer 2021, section 3.1. Images are (n, 3, H, W) in
[-1, 1]; k codes of c dimensions.
"""

from __future__ import annotations

import colorsys
import math
from typing import Any, NamedTuple

import ipywidgets as widgets
import torch
import torch.nn.functional as F
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


class PatchCodebook(NamedTuple):
    """A codebook of a picture's own patches."""

    centres: Tensor  # (k, 3, f, f)
    codes: Tensor  # (h, w)
    picture: Tensor  # (3, H, W), every patch replaced by its centre
    psnr: float


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal to noise ratio of images in [-1, 1], in dB; infinite where they are equal."""
    error = float((a.clamp(-1, 1) - b.clamp(-1, 1)).div(2).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


@torch.no_grad()
def patch_codebook(image: Tensor, k: int, f: int = 8) -> PatchCodebook:
    """k-means on the f × f patches of an image (1, 3, H, W): the centres are the codes."""
    height, width = image.shape[2] // f, image.shape[3] // f
    vectors = F.unfold(image, f, stride=f)[0].T
    k = min(k, len(vectors))
    # one centre a patch needs no search, and Lloyd's algorithm may find a worse one
    centres = vectors if k == len(vectors) else kmeans(vectors, k, torch.Generator().manual_seed(0), iterations=20)
    codes = nearest_codes(vectors, centres)
    picture = F.fold(centres[codes].T[None], image.shape[2:], f, stride=f)[0]
    return PatchCodebook(centres.view(k, 3, f, f), codes.view(height, width), picture, psnr(picture, image[0]))


@svg_figure
def _kmeans_figure(image: Tensor, learned: Tensor, used: int, k: int, f: int) -> Figure:
    own = patch_codebook(image, k, f)
    figure = new_figure(10.4, 3.1)
    axes = figure.subplots(1, 4)
    show(axes[0], image, "the picture")
    order = torch.bincount(own.codes.flatten(), minlength=len(own.centres)).argsort(descending=True)
    columns = max(2, math.ceil(math.sqrt(len(order))))
    show(axes[1], tile_images(own.centres[order], columns), f"its {len(order)} commonest\nkinds of patch")
    show(axes[2], own.picture, f"rebuilt from them,\n{own.psnr:.1f} dB")
    show(axes[3], learned, f"learned codebook, {used} codes used,\n{psnr(learned, image[0]):.1f} dB")
    return figure


def kmeans_codebook(image: Tensor, vqgan: VQGAN, start: int = 16) -> widgets.VBox:
    """A codebook by k-means with a slider for K, beside the learned one."""
    with torch.no_grad():
        codes = vqgan.encode(image)[0]
    learned, used = decode_codes(vqgan, codes), len(torch.unique(codes))
    return interactive_figure(
        lambda k: _kmeans_figure(image, learned, used, k, vqgan.f), k=slider("K", 1, codes.numel(), start, live=False)
    )


@torch.no_grad()
def decode_each_code(vqgan: VQGAN, codes: Tensor | None = None) -> Tensor:
    """What the decoder draws for each code among its like: (k, 3, f, f), for all codes or for some (n,)."""
    f = vqgan.f
    codes = torch.arange(vqgan.config.codebook_size) if codes is None else codes
    parts = [vqgan.decode(part.view(-1, 1, 1).expand(-1, 3, 3)).clamp(-1, 1) for part in torch.split(codes, 256)]
    return torch.cat(parts)[:, :, f : 2 * f, f : 2 * f]


def sort_by_colour(images: Tensor, columns: int) -> Tensor:
    """An order (k,) in which pictures (k, 3, h, w) lie from dark to light, and in each row of so many by hue."""
    mean = images.mean((2, 3)).add(1).div(2)
    order = mean.sum(1).argsort()
    rows = [
        sorted(part.tolist(), key=lambda i: colorsys.rgb_to_hsv(*mean[i].tolist())[0])
        for part in torch.split(order, columns)
    ]
    return torch.tensor([i for row in rows for i in row])


def colourfulness(images: Tensor) -> Tensor:
    """How far the mean colours of pictures (k, 3, h, w) are from grey (k,)."""
    mean = images.mean((2, 3))
    return mean.amax(1) - mean.amin(1)


def find_patches(code: int, images: Tensor, codes: Tensor, margin: int = 1) -> Tensor:
    """Where a code is used: the pieces (n, 3, s, s) of images around it, s = f (1 + 2 margin) pixels.

    codes (b, h, w) are those of the images; what lies beyond a border is the border.
    """
    f = images.shape[2] // codes.shape[1]
    padded = F.pad(images, [margin * f] * 4, mode="replicate")
    side = f * (1 + 2 * margin)
    places = (codes == code).nonzero().tolist()
    found = [padded[b, :, r * f : r * f + side, c * f : c * f + side] for b, r, c in places]
    return torch.stack(found) if found else images.new_zeros(0, 3, side, side)


class CodebookFigure:
    """All codes of a codebook, drawn; call it with a place in the atlas, and it draws where that code is used."""

    def __init__(self, vqgan: VQGAN, images: Tensor) -> None:
        self.vqgan, self.images = vqgan, images
        with torch.no_grad():
            self.codes = torch.cat([vqgan.encode(part) for part in torch.split(images, 16)])
        self.tiles = decode_each_code(vqgan)
        self.columns = math.ceil(math.sqrt(len(self.tiles)))
        self.order = sort_by_colour(self.tiles, self.columns)
        self.uses = torch.bincount(self.codes.flatten(), minlength=len(self.tiles))

    @property
    def rows(self) -> int:
        return -(-len(self.tiles) // self.columns)

    @property
    def picture(self) -> Image.Image:
        """The atlas (rows · f, columns · f), one tile a code."""
        blank = self.tiles.new_ones(self.rows * self.columns - len(self.tiles), *self.tiles.shape[1:])
        grid = torch.cat([self.tiles[self.order], blank]).view(self.rows, self.columns, 3, *self.tiles.shape[2:])
        return to_picture(grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2))

    def place(self, code: int) -> tuple[int, int]:
        """Row and column of a code in the atlas."""
        index = int((self.order == code).nonzero()[0, 0])
        return divmod(index, self.columns)

    def code_at(self, row: int, column: int) -> int:
        """The code at a place of the atlas; the last one where the atlas has ended."""
        return int(self.order[min(row * self.columns + column, len(self.order) - 1)])

    @svg_figure
    def __call__(self, row: int, column: int) -> Figure:
        code = self.code_at(row, column)
        found = find_patches(code, self.images, self.codes)
        figure = new_figure(10.4, 2.6)
        axes = figure.subplots(1, 4, gridspec_kw={"width_ratios": [0.7, 1.2, 1.2, 2.8]})
        vectors = self.vqgan.codebook[code].tolist()
        show(axes[0], self.tiles[code], f"code {code}")
        axes[1].bar(range(len(vectors)), vectors, color=BLUE)
        axes[1].set_title(f"its vector, {len(vectors)} numbers" if len(vectors) > 1 else "its vector")
        axes[1].axhline(0, color=INK, linewidth=0.5)
        counts = self.uses.sort(descending=True)
        axes[2].fill_between(range(1, len(counts.values) + 1), counts.values.tolist(), color=GREY, alpha=0.5)
        rank = int((counts.indices == code).nonzero()[0, 0]) + 1
        axes[2].plot([rank], [int(self.uses[code])], "o", color=RED)
        axes[2].set_yscale("symlog")
        axes[2].set_title(f"used {int(self.uses[code])} times: rank {rank}")
        if len(found):
            show(
                axes[3], tile_images(found[:: max(1, len(found) // 24)][:24], 8, gap=2), "where, with what lies around"
            )
        else:
            axes[3].set_axis_off()
            axes[3].set_title("not used in these pictures")
        return figure


def codebook_atlas(vqgan: VQGAN, images: Tensor) -> widgets.VBox:
    """The codebook to click: each code's vector, how often it is used, and where."""
    book = CodebookFigure(vqgan, images)
    # often used and colourful: the commonest codes are plain ground
    start = book.place(int((book.uses.clamp(max=24) * colourfulness(book.tiles)).argmax()))
    return pick_cell(book, book.picture, book.rows, book.columns, start, width=384)


class CodeSwapFigure:
    """A picture's codes, one of them replaced by another; call it with a cell and a code, and it draws."""

    def __init__(self, image: Tensor, vqgan: VQGAN) -> None:
        self.image, self.vqgan = image, vqgan
        with torch.no_grad():
            self.codes = vqgan.encode(image)[0]

    def swapped(self, row: int, column: int, code: int, everywhere: bool = True) -> Tensor:
        """The codes (h, w) with the cell's code replaced, in that cell or wherever it stands."""
        old = self.codes[row, column]
        if everywhere:
            return torch.where(self.codes == old, code, self.codes)
        out = self.codes.clone()
        out[row, column] = code
        return out

    @svg_figure
    def __call__(self, row: int, column: int, code: int, everywhere: bool) -> Figure:
        f, new = self.vqgan.f, self.swapped(row, column, code, everywhere)
        before, after = decode_codes(self.vqgan, self.codes), decode_codes(self.vqgan, new)
        changed = new != self.codes
        figure = new_figure(10.4, 3.0)
        axes = figure.subplots(1, 4, gridspec_kw={"width_ratios": [1, 1, 1, 0.55]})
        show(axes[0], before, "decoded from its codes")
        for r, c in changed.nonzero().tolist():
            outline(axes[0], r * f, c * f, f, f, RED)
        old = int(self.codes[row, column])
        show(axes[1], after, f"code {old} → {code}, cells: {int(changed.sum())}")
        difference = (after - before).abs().mean(0)
        show(axes[2], difference, "how far the change reaches", cmap="magma", vmin=0)
        both = decode_each_code(self.vqgan, torch.tensor([old, code]))
        show(axes[3], tile_images(both, 1, gap=4), f"{old} above\n{code} below")
        return figure


def swap_code(image: Tensor, vqgan: VQGAN) -> widgets.VBox:
    """Encode, change codes, decode: click the cell whose code is replaced."""
    changes, drawn_codes = CodeSwapFigure(image, vqgan), decode_each_code(vqgan)
    k = vqgan.config.codebook_size
    counts = torch.bincount(changes.codes.flatten(), minlength=k)
    old = int((counts * colourfulness(drawn_codes)).argmax())  # a code that is seen well, and another colour for it
    row, column = (changes.codes == old).nonzero()[0].tolist()
    colours = drawn_codes.mean((2, 3))
    code = int((colours + colours[old]).square().sum(1).argmin())
    everywhere = widgets.Checkbox(value=True, description="wherever that code stands", indent=False)
    height, width = changes.codes.shape
    return pick_cell(
        changes, to_picture(image), height, width, (row, column), code=slider("new code", 0, k - 1, code),
        everywhere=everywhere,
    )  # fmt: skip


def mix_halves(first: Tensor, second: Tensor, vqgan: VQGAN) -> tuple[Tensor, Tensor]:
    """The left half of one image's codes beside the right half of another's: codes (h, w), and their picture."""
    with torch.no_grad():
        codes, other = vqgan.encode(first)[0], vqgan.encode(second)[0]
    middle = codes.shape[1] // 2
    joined = torch.cat([codes[:, :middle], other[:, middle:]], 1)
    return joined, decode_codes(vqgan, joined)


# The choice of the nearest code, in two dimensions.

CODEBOOK_2D = torch.tensor(
    [[-1.5, 0.9], [-0.7, -1.1], [0.1, 0.4], [0.6, 1.4], [1.3, -0.3], [-1.7, -0.5], [0.4, -1.5], [1.8, 0.9], [-0.6, 1.6]]
)


class StraightThroughExample(NamedTuple):
    """A latent, its nearest code, and the gradients on both."""

    code: int
    chosen: Tensor  # (2,) z_q
    code_gradient: Tensor  # (2,) gradient of the loss at z_q
    straight_through_gradient: Tensor  # (2,) what straight_through hands to ẑ
    true_gradient: Tensor  # (2,) the true derivative of the choice: nothing


def straight_through_example(latent: Tensor, target: Tensor, codebook: Tensor = CODEBOOK_2D) -> StraightThroughExample:
    """The nearest of the codes (k, 2) to a latent (2,), and the gradient of ½‖z_q − target‖² on its way back."""
    z = latent.clone().requires_grad_()
    code = nearest_codes(z.detach()[None], codebook)
    chosen = codebook[code][0].clone().requires_grad_()
    loss = (straight_through(z, chosen) - target).square().sum() / 2
    (through,) = torch.autograd.grad(loss, z)
    (at_code,) = torch.autograd.grad((chosen - target).square().sum() / 2, chosen)
    # a code is looked up by its index, and an index has no derivative: nothing of ẑ is left in it
    return StraightThroughExample(int(code), chosen.detach(), at_code, through, torch.zeros_like(latent))


def xy(point: Tensor) -> tuple[float, float]:
    """A point (2,) as matplotlib takes it."""
    return float(point[0]), float(point[1])


@svg_figure
def _straight_through_figure(x: int, y: int) -> Figure:
    latent, target = torch.tensor([x / 10, y / 10]), torch.tensor([1.9, 1.8])
    found = straight_through_example(latent, target)
    figure = new_figure(7.4, 5.6)
    ax = figure.subplots()
    span = torch.linspace(-2.4, 2.4, 320)
    points = torch.cartesian_prod(span, span).flip(1)
    regions = nearest_codes(points, CODEBOOK_2D).view(320, 320)
    show(ax, regions, cmap="tab20", alpha=0.16, extent=(-2.4, 2.4, -2.4, 2.4), origin="lower")
    ax.contour(
        span, span, regions, levels=torch.arange(len(CODEBOOK_2D)).add(0.5).tolist(), colors=GREY, linewidths=0.4
    )
    ax.plot(*CODEBOOK_2D.T.tolist(), "s", color=GREY, markersize=9)
    for index, place in enumerate(CODEBOOK_2D.tolist()):
        ax.annotate(f"$z_{index}$", place, xytext=(7, 7), textcoords="offset points", fontsize=11)
    ax.plot(*found.chosen.tolist(), "s", color=GREEN, markersize=13)
    ax.plot(*latent.tolist(), "o", color=BLUE, markersize=11)
    ax.plot(*target.tolist(), "*", color=ORANGE, markersize=16)
    arrow: dict[str, Any] = {"arrowstyle": "-|>", "linewidth": 2, "shrinkA": 6, "shrinkB": 0, "mutation_scale": 14}
    dashed = {**arrow, "linestyle": "--", "color": GREEN, "linewidth": 1.5, "shrinkB": 7}
    ax.annotate("", xy(found.chosen), xy(latent), arrowprops=dashed)
    for start, gradient in ((found.chosen, found.code_gradient), (latent, found.straight_through_gradient)):
        ax.annotate("", xy(start - 0.3 * gradient), xy(start), arrowprops={**arrow, "color": RED})
    ax.annotate("ẑ", xy(latent), xytext=(-16, -14), textcoords="offset points", color=BLUE, fontsize=13)
    ax.annotate("wanted", xy(target), xytext=(-2, -18), textcoords="offset points", color=ORANGE, ha="center")
    ax.set_title(
        f"forward: $z_q = z_{found.code}$, the nearest code (green)\n"
        "backward: the pull at $z_q$ is handed to ẑ as it is (red, twice the same arrow)"
    )
    return figure


def choose_nearest() -> widgets.VBox:
    """Move ẑ with two sliders: which code is nearest, and what gradient comes back."""
    return interactive_figure(
        _straight_through_figure, x=slider("ẑ, across", -23, 23, -4), y=slider("ẑ, up", -23, 23, -2)
    )
