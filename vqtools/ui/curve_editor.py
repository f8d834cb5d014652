"""The curves of an animation: all of them small, one of them large, its points under the hand.

Knows curves, frames and widgets; nothing about pictures. The text of a curve stays what counts: a drag writes it anew.
Where anywidget is missing, the large curve is a drawing, and the two numbers below it do what dragging does.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
import traitlets

from vqtools.animation.keyframe_editing import (
    Keyframe,
    add_keyframe,
    list_keyframes,
    move_keyframe,
    remove_keyframe,
    sample_curve,
)
from vqtools.animation.keyframes import Curve
from vqtools.animation.settings import CURVE_FIELDS, SIZE_VARIABLES, AnimateSettings
from vqtools.core.errors import UserError
from vqtools.ui.plots import curve_svg as small

WIDTH, HEIGHT, MARGIN = 560, 170, 26

SCRIPT = """
const W = 560, H = 170, M = 26, NS = "http://www.w3.org/2000/svg";
function render({ model, el }) {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.setAttribute("class", "vqtools-large");
  svg.setAttribute("role", "img");
  const make = (name, marks, text) => {
    const one = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(marks)) one.setAttribute(key, value);
    if (text !== undefined) one.textContent = text;
    svg.append(one);
    return one;
  };
  const x = (frame) => M + frame / Math.max(1, model.get("last")) * (W - 2 * M);
  const y = (value) => { const [a, b] = model.get("span"); return H - M - (value - a) / (b - a) * (H - 2 * M); };
  const back = (event) => {
    const area = svg.getBoundingClientRect(), [a, b] = model.get("span"), last = model.get("last");
    const px = (event.clientX - area.left) / area.width * W, py = (event.clientY - area.top) / area.height * H;
    const frame = Math.round((px - M) / (W - 2 * M) * last);
    return [Math.min(last, Math.max(0, frame)), a + (H - M - py) / (H - 2 * M) * (b - a)];
  };
  const say = (kind, index, place) => {
    model.set("wish", [kind, index, ...place, Date.now()]);
    model.save_changes();
  };
  const draw = () => {
    svg.replaceChildren();
    const [a, b] = model.get("span"), short = (value) => String(+value.toPrecision(3));
    for (const value of [a, b]) {
      make("line", { x1: M, x2: W - M, y1: y(value), y2: y(value), class: "vqtools-rule" });
      make("text", { x: M, y: y(value) + (value === b ? -6 : 16) }, short(value));
    }
    make("text", { x: W - M, y: H - M + 16, "text-anchor": "end" }, "frame " + model.get("last"));
    const line = model.get("line").map(([frame, value]) => `${x(frame)},${y(value)}`).join(" ");
    make("polyline", { points: line, class: "vqtools-drawn" });
    model.get("points").forEach(([frame, value, free], index) => {
      const dot = make("circle", { cx: x(frame), cy: y(value), r: free ? 6 : 3.5, class: free ? "vqtools-dot" : "" });
      dot.append(Object.assign(document.createElementNS(NS, "title"),
                               { textContent: `frame ${frame}: ${short(value)}` + (free ? "" : ", a formula") }));
      if (!free) return;
      dot.addEventListener("pointerdown", (event) => {
        event.preventDefault(); event.stopPropagation();
        dot.setPointerCapture(event.pointerId);
        const move = (at) => {
          const [frame, value] = back(at);
          dot.setAttribute("cx", x(frame)); dot.setAttribute("cy", y(value));
        };
        dot.addEventListener("pointermove", move);
        dot.addEventListener("pointerup", (at) => {
          dot.removeEventListener("pointermove", move);
          if (Math.hypot(at.clientX - event.clientX, at.clientY - event.clientY) > 2) say("move", index, back(at));
        }, { once: true });
      });
      dot.addEventListener("dblclick", (event) => { event.stopPropagation(); say("remove", index, [frame, value]); });
    });
  };
  svg.addEventListener("dblclick", (event) => say("add", -1, back(event)));
  for (const name of ["line", "points", "span", "last"]) model.on(`change:${name}`, draw);
  draw();
  el.append(svg);
}
export default { render };
"""


@functools.cache
def _editor_class() -> Any:
    """The widget's class; None where anywidget is not installed."""
    try:
        import anywidget
    except ImportError:
        return None

    class Large(anywidget.AnyWidget):
        _esm = SCRIPT
        last = traitlets.Int(1).tag(sync=True)
        span = traitlets.List([0.0, 1.0]).tag(sync=True)
        line: Any = traitlets.List([]).tag(sync=True)
        points: Any = traitlets.List([]).tag(sync=True)
        wish: Any = traitlets.List([]).tag(sync=True)  # what a hand did: kind, index, frame, value, and when

    return Large


class CurveEditor:
    """Every curve of an animation that is not the same throughout, and one to be drawn by hand.

    ``change(name, text)`` is called with a curve's new text. `show(settings)` draws; what can't be read is left out.
    """

    def __init__(self, settings: AnimateSettings, change: Callable[[str, str], None]) -> None:
        self.change = change
        self.settings = settings
        self.audio_curves: Mapping[str, Any] | None = None  # the sound's curves, by name
        self.chosen = widgets.Dropdown(
            options=[(name.replace("_", " "), name) for name in CURVE_FIELDS], value="zoom", description="curve",
            layout=widgets.Layout(width="230px"), style={"description_width": "44px"},
        )  # fmt: skip
        kind = _editor_class()
        self.large = kind() if kind is not None else widgets.HTML()
        self.frame = widgets.BoundedIntText(
            0, min=0, max=1, description="frame", layout=_width_layout(130), style=_LABEL_STYLE
        )
        self.value = widgets.FloatText(
            1.0, step=0.01, description="value", layout=_width_layout(150), style=_LABEL_STYLE
        )
        self.buttons = {
            name: widgets.Button(description=text, layout=widgets.Layout(width="84px"))
            for name, text in {"put": "Set point", "take": "Remove"}.items()
        }
        self.message = widgets.HTML()
        self.message.add_class("vqtools-status")
        self.all = widgets.HTML()
        self.all.add_class("vqtools-curves")
        row = widgets.HBox([self.chosen, self.frame, self.value, *self.buttons.values(), self.message])
        row.add_class("vqtools-row")
        self.view = widgets.VBox([self.all, self.large, row])
        self.chosen.observe(lambda _: self.show(self.settings), "value")
        self.buttons["put"].on_click(lambda _: self._act("add", -1, self.frame.value, self.value.value))
        self.buttons["take"].on_click(lambda _: self._act("take", -1, self.frame.value, self.value.value))
        if kind is not None:
            self.large.observe(lambda change: self._act(*change["new"][:4]), "wish")
        self.show(settings)

    def curve(self, name: str) -> Curve:
        """A curve as its settings have it."""
        s = self.settings
        names = (*SIZE_VARIABLES, *(self.audio_curves or ()))
        return Curve.parse(getattr(s, name), interpolation=s.interpolation, variables=names)

    def show(self, settings: AnimateSettings) -> None:
        """Draw these settings' curves."""
        self.settings, self.message.value = settings, ""
        drawn = []
        for name in CURVE_FIELDS:
            line = self._sample_curve(name)
            if len({round(value, 9) for _, value in line}) > 1:
                drawn.append(small(name.replace("_", " "), line, width=150, height=44))
        for name in self.audio_curves or ():
            drawn.append(small(f"♪ {name}", self._audio_points(name), width=150, height=44))
        self.all.value = "".join(drawn)
        last = max(1, settings.frames - 1)
        self.frame.max = last
        try:
            found = list_keyframes(
                self.curve(self.chosen.value), settings.frames - 1, settings.seed or 0, **self._formula_variables(0)
            )
        except (UserError, KeyError, ArithmeticError):
            found = []
        self._update_editor(last, self._sample_curve(self.chosen.value), found)

    def _update_editor(self, last: int, line: list[tuple[float, float]], found: list[Keyframe]) -> None:
        span = _value_range([value for _, value in line] + [one.value for one in found if math.isfinite(one.value)])
        inside = [list(one) for one in found]
        if _editor_class() is None:
            self.large.value = _static_svg(last, span, line, found)
            return
        with self.large.hold_sync():
            self.large.last, self.large.span = last, list(span)
            self.large.line, self.large.points = [list(one) for one in line], inside

    def _formula_variables(self, frame: int) -> dict[str, float]:
        """The variables that a formula may use beside Deforum's."""
        sides = dict(zip(SIZE_VARIABLES, map(float, self.settings.size), strict=True))
        return sides | {name: values[min(frame, len(values) - 1)] for name, values in (self.audio_curves or {}).items()}

    def _sample_curve(self, name: str) -> list[tuple[float, float]]:
        s, last = self.settings, self.settings.frames - 1
        try:
            curve = self.curve(name)
        except UserError:  # it follows a sound that is not heard yet
            return []
        if not self.audio_curves:
            return sample_curve(curve, last, s.seed or 0, self._formula_variables(0))
        found = []
        for frame, _ in sample_curve(Curve.parse("0"), last):
            try:
                found.append((frame, curve(frame, last, s.seed or 0, **self._formula_variables(round(frame)))))
            except UserError:
                continue
        return found

    def _audio_points(self, name: str) -> list[tuple[float, float]]:
        values = (self.audio_curves or {})[name]
        return [(float(frame), float(value)) for frame, value in enumerate(values)]

    def _act(self, kind: str, index: int, frame: float, value: float) -> None:
        """What a hand wants of the chosen curve: its new text, or one line about why not."""
        name, last, seed = self.chosen.value, self.settings.frames - 1, self.settings.seed or 0
        try:
            curve, frame = self.curve(name), round(frame)
            if kind == "move":
                text = move_keyframe(curve, index, frame, value)
            elif kind == "add":
                text = add_keyframe(curve, frame, value, last, seed)
            else:
                there = [one.frame for one in list_keyframes(curve, last, seed, **self._formula_variables(0))]
                if kind == "take" and frame not in there:
                    raise UserError(f"no point stands at frame {frame}; there are {', '.join(map(str, there))}")
                text = remove_keyframe(curve, index if kind == "remove" else there.index(frame))
            Curve.parse(text, variables=(*SIZE_VARIABLES, *(self.audio_curves or ())))
        except UserError as error:
            self.message.value = f'<span class="vqtools-error">{html.escape(str(error))}</span>'
            self.reset_points()
            return
        self.change(name, text)

    def reset_points(self) -> None:
        """Put a dot that was dragged in vain back in its place."""
        words = self.message.value
        if _editor_class() is not None:
            self.large.points = []
        self.show(self.settings)
        self.message.value = words


_LABEL_STYLE = {"description_width": "44px"}


def _width_layout(width: int) -> Any:
    return widgets.Layout(width=f"{width}px")


def _value_range(values: list[float]) -> tuple[float, float]:
    """What the large curve shows from bottom to top: a flat one has room to be dragged either way."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9:
        room = max(0.05, 0.1 * abs(low))
        return low - room, high + room
    return low - 0.15 * (high - low), high + 0.15 * (high - low)


def _static_svg(last: int, span: tuple[float, float], line: list[tuple[float, float]], found: list[Keyframe]) -> str:
    """The large curve where nothing can be dragged."""

    def at(frame: float, value: float) -> tuple[float, float]:
        x = MARGIN + frame / last * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (value - span[0]) / (span[1] - span[0]) * (HEIGHT - 2 * MARGIN)

    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*one) for one in line))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>frame {one.frame}: {one.value:.3g}</title></circle>'
        for one in found
        for x, y in [at(one.frame, one.value)]
    )
    rules = "".join(
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" class="vqtools-rule"/>'
        f'<text x="{MARGIN}" y="{y + shift:.1f}">{value:.3g}</text>'
        for value, shift in ((span[0], 16), (span[1], -6))
        for y in [at(0, value)[1]]
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="vqtools-large">{rules}'
        f'<polyline points="{drawn}" class="vqtools-drawn"/>{dots}</svg>'
    )
