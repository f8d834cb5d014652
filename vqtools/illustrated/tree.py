"""A tree of the ideas behind VQGAN-CLIP: their papers, their ancestors, and the code here that implements each.

The ideas are listed in tree.json. Knows papers and names of objects of this library; nothing about pictures.
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
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vqtools.illustrated.controls import dropdown
from vqtools.illustrated.style import BLUE, GREY, INK, RED, new_figure, svg_figure

TREE_FILE = Path(__file__).with_name("tree.json")
HIGHLIGHTED = ("vqgan", "guided", "clip")  # names in bold
_SHOWN_LINES = 18  # of an idea's code
_LANES = {  # vertical position of each idea, chosen so that edges and names overlap little
    "kmeans": 7, "vq": 6, "convolution": 3, "autoencoder": 4, "straight": 8, "gan": 1, "perceptual": 3,
    "patchgan": 2, "gumbel": 9, "hinge": 1, "attention": 10, "vqvae": 6, "gpt": 10, "nucleus": 12, "vqvae2": 7,
    "igpt": 9, "diffaug": 0, "vit": 11, "vqgan": 5, "adaptive": 3, "window": 13, "clip": 11, "lecam": 1,
    "cosine": 6, "revival": 7, "guided": 9, "cfg": 13, "llamagen": 6,
}  # fmt: skip


class Idea(NamedTuple):
    """One node of the tree."""

    id: str
    name: str
    year: int
    authors: str
    arxiv: str  # identifier, or "" if there is no arXiv paper
    summary: str
    code: str  # module:object of this library
    parents: tuple[str, ...]  # ids of the ideas that it builds on

    @property
    def url(self) -> str:
        """Address of the paper on arXiv, or ""."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def object(self) -> Any:
        """Return the class, function or property that implements the idea here."""
        module, _, path = self.code.partition(":")
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))

    def source(self) -> tuple[str, int, list[str]]:
        """Return the file (relative to the repository), first line number and source lines of :meth:`object`."""
        implementation = self.object()
        function: Any = implementation.fget if isinstance(implementation, property) else inspect.unwrap(implementation)
        lines, first_line = inspect.getsourcelines(function)
        module = self.code.partition(":")[0]
        return module.replace(".", "/") + ".py", first_line, lines


@functools.cache
def load_ideas() -> dict[str, Idea]:
    """Return all ideas by their id, oldest first."""
    records = json.loads(TREE_FILE.read_text("utf-8"))
    ideas = [
        Idea(r["id"], r["name"], r["year"], r["by"], r.get("arxiv", ""), r["idea"], r["code"], tuple(r["from"]))
        for r in records
    ]
    return {idea.id: idea for idea in ideas}


def node_positions() -> dict[str, tuple[float, float]]:
    """Return a position (x, y) for each idea: x is the index of its year among all years with an idea, y its lane."""
    years = sorted({idea.year for idea in load_ideas().values()})
    return {idea.id: (years.index(idea.year), _LANES[idea.id]) for idea in load_ideas().values()}


def ancestors(idea_id: str) -> set[str]:
    """Return the ids of an idea and of all ideas that it builds on, directly or indirectly."""
    visited, pending = {idea_id}, [idea_id]
    while pending:
        for parent in load_ideas()[pending.pop()].parents:
            if parent not in visited:
                visited.add(parent)
                pending.append(parent)
    return visited


@svg_figure
def tree_figure(selected: str = "guided") -> Figure:
    """Draw all ideas by year, joined to the ideas they build on; the selected one and its ancestors in colour."""
    positions, ideas = node_positions(), load_ideas()
    figure = new_figure(12.4, 7.2)
    ax = figure.subplots()
    _draw_edges(ax, ancestors(selected))
    for idea in ideas.values():
        x, y = positions[idea.id]
        colour = RED if idea.id == selected else BLUE if idea.id in ancestors(selected) else GREY
        ax.plot([x], [y], "o", color=colour, markersize=8, zorder=3)
        weight = "bold" if idea.id in HIGHLIGHTED or idea.id == selected else "normal"
        ax.annotate(
            idea.name, (x, y), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9, color=INK,
            fontweight=weight, zorder=4,
        )  # fmt: skip
    years = sorted({idea.year for idea in ideas.values()})
    ax.set_xticks(range(len(years)), [str(year) for year in years])
    ax.set_xlim(-0.6, len(years) - 0.3)
    ax.set_ylim(-0.6, 14)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return figure


def _draw_edges(ax: Axes, related: set[str]) -> None:
    """Join each idea to its parents; edges between ``related`` ideas are blue and thicker."""
    positions = node_positions()
    for idea in load_ideas().values():
        for parent in idea.parents:
            both_related = idea.id in related and parent in related
            colour, width, alpha = (BLUE, 1.8, 0.9) if both_related else (GREY, 0.6, 0.5)
            line = {"arrowstyle": "-", "connectionstyle": "arc3,rad=0.08", "zorder": 1}
            line |= {"color": colour, "linewidth": width, "alpha": alpha}
            ax.annotate("", positions[idea.id], positions[parent], arrowprops=line)


def idea_html(selected: str) -> str:
    """Return an idea's summary, paper and first lines of code as HTML."""
    idea = load_ideas()[selected]
    file, line, lines = idea.source()
    paper_link = f' <a href="{idea.url}" target="_blank">arXiv {idea.arxiv}</a>' if idea.url else ""
    code = html.escape("".join(lines[:_SHOWN_LINES]).rstrip()) + ("\n…" if len(lines) > _SHOWN_LINES else "")
    return (
        f"<p><b>{html.escape(idea.name)}</b>, {idea.year}. {html.escape(idea.summary)}<br>"
        f"<span>{html.escape(idea.authors)}.{paper_link}</span><br>"
        f"<code>{file}</code>, line {line}</p>"
        f'<pre style="font-size:12px;line-height:1.35;overflow:auto;max-height:320px">{code}</pre>'
    )


def idea_tree() -> widgets.VBox:
    """Return the tree with a dropdown to select an idea: its ancestors, its paper and its code in this library."""
    names = dropdown("idea", [(f"{idea.year}  {idea.name}", idea.id) for idea in load_ideas().values()], "guided")
    figure, details = widgets.HTML(), widgets.HTML()

    def redraw(_change: Any = None) -> None:
        figure.value, details.value = tree_figure(names.value).svg(), idea_html(names.value)

    names.observe(redraw, "value")
    redraw()
    return widgets.VBox([names, figure, details])
