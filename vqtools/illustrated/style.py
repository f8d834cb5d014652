"""Style of the figures of notebook 00: matplotlib parameters, SVG output, and small drawing helpers.

Knows figures and pictures; nothing about what they explain and nothing about widgets. Text and axes are drawn in a
placeholder colour that the SVG replaces by the page's text colour, so figures are legible on light and dark pages.
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

from vqtools.media.image import to_picture

P = ParamSpec("P")

INK = "#010203"  # placeholder for the page's text colour; a value that no figure uses by accident
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
    """A finished matplotlib figure that notebooks display as SVG in the page's text colour."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def svg(self) -> str:
        """Return an SVG element that fills the available width, up to the figure's own width."""
        stream = io.StringIO()
        with mpl.rc_context(RC):
            self.figure.savefig(stream, format="svg", dpi=150, transparent=True, metadata={"Date": None})
        text = stream.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        width = round(self.figure.get_figwidth() * 96)
        size = f'style="width:100%;max-width:{width}px;height:auto" role="img"'
        return re.sub(r'height="[\d.]+pt"', size, re.sub(r' width="[\d.]+pt"', "", text, count=1), count=1)

    def _repr_html_(self) -> str:
        return self.svg()


def svg_figure(draw_figure: Callable[P, Figure]) -> Callable[P, SVGFigure]:
    """Decorate a function that returns a matplotlib figure: it draws in this style and returns an SVGFigure."""

    @functools.wraps(draw_figure)
    def draw(*args: P.args, **kwargs: P.kwargs) -> SVGFigure:
        with mpl.rc_context(RC):
            return SVGFigure(draw_figure(*args, **kwargs))

    return draw


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches.

    It is not registered with pyplot, so running a cell again leaves no open figures behind.
    """
    return Figure(figsize=(width, height), layout="constrained")


def to_rgb_array(picture: Image.Image | Tensor) -> np.ndarray[Any, Any]:
    """Convert a picture, or an image (3, H, W) or (1, 3, H, W) in [-1, 1], to an array (H, W, 3) in [0, 1]."""
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    image = picture.detach().float().squeeze(0).add(1).div(2).clamp(0, 1)
    return image.permute(1, 2, 0).cpu().numpy()


def show(ax: Axes, picture: Any, title: str = "", **imshow_options: Any) -> None:
    """Show a picture, an image (3, H, W) in [-1, 1], or a plane (H, W) of numbers, without axis lines and ticks."""
    if isinstance(picture, Image.Image) or (isinstance(picture, Tensor) and picture.ndim > 2):
        picture = to_rgb_array(picture)
    elif isinstance(picture, Tensor):
        picture = picture.detach().cpu().numpy()
    ax.imshow(picture, **imshow_options)
    ax.set_axis_off()
    if title:
        ax.set_title(title)


def outline(ax: Axes, row: float, column: float, height: float, width: float, colour: str = RED) -> None:
    """Draw a frame around pixels of a picture that :func:`show` has drawn; all positions and sizes in pixels."""
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), width, height, fill=False, edgecolor=colour, linewidth=2))


def tile_images(images: Tensor, columns: int, gap: int = 1) -> np.ndarray[Any, Any]:
    """Arrange images (n, 3, h, w) in [-1, 1] in rows: one RGBA array (H, W, 4) in [0, 1] with transparent gaps."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    canvas = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.float32)
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        canvas[top : top + h, left : left + w, :3] = to_rgb_array(image)
        canvas[top : top + h, left : left + w, 3] = 1
    return canvas


def to_png(picture: Image.Image | Tensor) -> bytes:
    """Encode a picture, or an image (3, H, W) or (1, 3, H, W) in [-1, 1], as PNG."""
    stream = io.BytesIO()
    (to_picture(picture) if isinstance(picture, Tensor) else picture).convert("RGB").save(stream, "PNG")
    return stream.getvalue()
