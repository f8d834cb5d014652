"""How the illustrations look, and how a reader touches them.

Knows figures, pictures and widgets; nothing about what they explain. A figure is drawn in one ink that becomes the
page's own text colour, so that it reads on light and dark pages alike.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import Any, ParamSpec

import cycler
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

P = ParamSpec("P")

INK = "#010203"  # stands for the page's text colour: nobody draws with it by chance
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#3b82c4", "#e07b39", "#4d9e5f", "#d1495b", "#9273c4", "#8c8c8c"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)

RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.prop_cycle": cycler.cycler(color=COLOURS),
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
    "svg.fonttype": "path",
}


class SVGFigure:
    """A finished figure. Displayed it is SVG in the page's own ink."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def svg(self) -> str:
        """The figure as an SVG element that is as wide as there is room, at most its own width."""
        out = io.StringIO()
        with mpl.rc_context(RC):
            self.figure.savefig(out, format="svg", dpi=150, transparent=True, metadata={"Date": None})
        text = out.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        width = round(self.figure.get_figwidth() * 96)
        size = f'style="width:100%;max-width:{width}px;height:auto" role="img"'
        return re.sub(r'height="[\d.]+pt"', size, re.sub(r' width="[\d.]+pt"', "", text, count=1), count=1)

    def _repr_html_(self) -> str:
        return self.svg()


def svg_figure(make: Callable[P, Figure]) -> Callable[P, SVGFigure]:
    """A function that draws a matplotlib figure, made to give a Drawing in the house's style."""

    @functools.wraps(make)
    def draw(*args: P.args, **kwargs: P.kwargs) -> SVGFigure:
        with mpl.rc_context(RC):
            return SVGFigure(make(*args, **kwargs))

    return draw


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; not pyplot's, so that nothing is left behind when a cell runs again."""
    return Figure(figsize=(width, height), layout="constrained")


def to_rgb_array(picture: Image.Image | Tensor) -> np.ndarray[Any, Any]:
    """A picture, or an image (3, H, W) or (1, 3, H, W) in [-1, 1] -> (H, W, 3) in [0, 1]."""
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    image = picture.detach().float().squeeze(0).add(1).div(2).clamp(0, 1)
    return image.permute(1, 2, 0).cpu().numpy()


def show(ax: Axes, picture: Any, title: str = "", **how: Any) -> None:
    """A picture, an image or a plane of numbers, without axes."""
    if isinstance(picture, Image.Image) or (isinstance(picture, Tensor) and picture.ndim > 2):
        picture = to_rgb_array(picture)
    elif isinstance(picture, Tensor):
        picture = picture.detach().cpu().numpy()
    ax.imshow(picture, **how)
    ax.set_axis_off()
    if title:
        ax.set_title(title)


def outline(ax: Axes, row: float, column: float, height: float, width: float, colour: str = RED) -> None:
    """A frame around cells or pixels of a picture that was shown."""
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), width, height, fill=False, edgecolor=colour, linewidth=2))


def tile_images(images: Tensor, columns: int, gap: int = 1) -> np.ndarray[Any, Any]:
    """Images (n, 3, h, w) in [-1, 1] -> one sheet (H, W, 4) in [0, 1], what lies between them transparent."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.float32)
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w, :3] = to_rgb_array(image)
        sheet[top : top + h, left : left + w, 3] = 1
    return sheet


def to_png(picture: Image.Image | Tensor, least: int = 0) -> bytes:
    """A picture as PNG, enlarged by whole pixels to at least so many a side."""
    image = Image.fromarray((to_rgb_array(picture) * 255).round().astype(np.uint8))
    factor = max(1, -(-least // max(image.size)))
    data = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(data, "PNG")
    return data.getvalue()
