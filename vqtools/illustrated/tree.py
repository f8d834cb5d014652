"""The tree of knowledge: which idea grew out of which, who wrote it down, and the line here that does it.

Drawn from tree.json. Knows papers and names of our own objects; nothing about pictures.
"""

from __future__ import annotations

import functools
import html
import importlib
import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets as widgets
from matplotlib.figure import Figure

from vqtools.illustrated.controls import dropdown
from vqtools.illustrated.style import BLUE, GREEN, GREY, INK, ORANGE, RED, new_figure, svg_figure

TREE_FILE = Path(__file__).with_name("tree.json")
HIGHLIGHTED = {"vqgan": ORANGE, "guided": RED, "clip": GREEN}


class Idea(NamedTuple):
    """One node."""

    id: str
    name: str
    year: int
    by: str
    arxiv: str
    idea: str
    code: str  # module:object of this library
    parents: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def object(self) -> Any:
        """What implements it here."""
        module, _, path = self.code.partition(":")
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))

    def source(self) -> tuple[str, int, list[str]]:
        """File (from the library's folder on), line and lines of what implements it."""
        found = self.object()
        plain: Any = found.fget if isinstance(found, property) else inspect.unwrap(found)
        lines, first = inspect.getsourcelines(plain)
        module = self.code.partition(":")[0]
        return module.replace(".", "/") + ".py", first, lines


@functools.cache
def load_ideas() -> dict[str, Idea]:
    """All nodes by their id, oldest first."""
    records = json.loads(TREE_FILE.read_text("utf-8"))
    found = [
        Idea(r["id"], r["name"], r["year"], r["by"], r.get("arxiv", ""), r["idea"], r["code"], tuple(r["from"]))
        for r in records
    ]
    return {one.id: one for one in found}


def node_positions() -> dict[str, tuple[float, float]]:
    """A place for every node: years from left to right (even steps between years that hold something), and a lane."""
    years = sorted({one.year for one in load_ideas().values()})
    lane = {
        "kmeans": 7, "vq": 6, "convolution": 3, "autoencoder": 4, "straight": 8, "gan": 1, "perceptual": 3,
        "patchgan": 2, "gumbel": 9, "hinge": 1, "attention": 10, "vqvae": 6, "gpt": 10, "nucleus": 12, "vqvae2": 7,
        "igpt": 9, "diffaug": 0, "vit": 11, "vqgan": 5, "adaptive": 3, "window": 13, "clip": 11, "lecam": 1,
        "cosine": 6, "revival": 7, "guided": 9, "cfg": 13, "llamagen": 6,
    }  # fmt: skip
    return {one.id: (years.index(one.year), lane[one.id]) for one in load_ideas().values()}


@svg_figure
def tree_figure(chosen: str = "guided") -> Figure:
    """All ideas over the years, each joined to those that it grew from; the ancestors of the chosen one in colour."""
    places, nodes = node_positions(), load_ideas()
    family = ancestors(chosen)
    figure = new_figure(12.4, 7.2)
    ax = figure.subplots()
    for one in nodes.values():
        x, y = places[one.id]
        for parent in one.parents:
            related = one.id in family and parent in family
            px, py = places[parent]
            ax.annotate(
                "", (x, y), (px, py),
                arrowprops={
                    "arrowstyle": "-", "color": BLUE if related else GREY, "linewidth": 1.8 if related else 0.6,
                    "alpha": 0.9 if related else 0.5, "connectionstyle": "arc3,rad=0.08", "zorder": 1,
                },
            )  # fmt: skip
    for one in nodes.values():
        x, y = places[one.id]
        colour = RED if one.id == chosen else BLUE if one.id in family else GREY
        ax.plot([x], [y], "o", color=colour, markersize=8, zorder=3)
        ax.annotate(
            one.name, (x, y), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9, color=INK,
            fontweight="bold" if one.id in HIGHLIGHTED or one.id == chosen else "normal", zorder=4,
        )  # fmt: skip
    years = sorted({one.year for one in nodes.values()})
    ax.set_xticks(range(len(years)), [str(year) for year in years])
    ax.set_xlim(-0.6, len(years) - 0.3)
    ax.set_ylim(-0.6, 14)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return figure


def ancestors(chosen: str) -> set[str]:
    """An idea and all that it grew from."""
    found, waiting = {chosen}, [chosen]
    while waiting:
        for parent in load_ideas()[waiting.pop()].parents:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def idea_html(chosen: str) -> str:
    """An idea in words, with its paper and the first lines of the code, as HTML."""
    one = load_ideas()[chosen]
    file, line, lines = one.source()
    paper_link = f' <a href="{one.url}" target="_blank">arXiv {one.arxiv}</a>' if one.url else ""
    code = html.escape("".join(lines[:18]).rstrip()) + ("\n…" if len(lines) > 18 else "")
    return (
        f"<p><b>{html.escape(one.name)}</b>, {one.year}. {html.escape(one.idea)}<br>"
        f"<span>{html.escape(one.by)}.{paper_link}</span><br>"
        f"<code>{file}</code>, line {line}</p>"
        f'<pre style="font-size:12px;line-height:1.35;overflow:auto;max-height:320px">{code}</pre>'
    )


def idea_tree() -> widgets.VBox:
    """The tree, with a list to choose an idea from: its ancestors, its paper and its lines in this library."""
    names = dropdown("idea", [(f"{one.year}  {one.name}", one.id) for one in load_ideas().values()], "guided")
    figure, words = widgets.HTML(), widgets.HTML()

    def redraw(_: Any = None) -> None:
        figure.value, words.value = tree_figure(names.value).svg(), idea_html(names.value)

    names.observe(redraw, "value")
    redraw()
    return widgets.VBox([names, figure, words])
