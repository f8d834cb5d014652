"""The curves of an animation: all of them small, and one large, whose points can be dragged.

Knows curves, frames and widgets; nothing about pictures. The text of a curve remains the setting: a drag rewrites it.
Without anywidget, the large curve is a static drawing, and two number fields below it replace dragging.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Callable, Mapping
from pathlib import Path
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
from vqtools.ui.plots import curve_svg

WIDTH, HEIGHT, MARGIN = 560, 170, 26  # of the large curve, as in curve_editor.js
_LABEL_STYLE = {"description_width": "44px"}


@functools.cache
def _editor_class() -> Any:
    """The widget's class, or None if anywidget is not installed."""
    try:
        import anywidget
    except ImportError:
        return None

    class LargeCurve(anywidget.AnyWidget):
        _esm = Path(__file__).with_name("curve_editor.js")
        last = traitlets.Int(1).tag(sync=True)  # frame
        span = traitlets.List([0.0, 1.0]).tag(sync=True)  # values at the bottom and the top
        line: Any = traitlets.List([]).tag(sync=True)  # frame and value
        points: Any = traitlets.List([]).tag(sync=True)  # frame, value, and whether it can be dragged
        edit_request: Any = traitlets.List([]).tag(sync=True)  # kind, index, frame, value, and time in ms

    return LargeCurve


class CurveEditor:
    """All curves of an animation that are not constant, and one of them to edit.

    ``change(name, text)`` is called with a curve's new text. :meth:`show` draws; curves that can't be parsed are
    omitted.
    """

    def __init__(self, settings: AnimateSettings, change: Callable[[str, str], None]) -> None:
        self.change = change
        self.settings = settings
        self.audio_curves: Mapping[str, Any] | None = None  # curves of the sound by name, one value per frame
        self.curve_menu = widgets.Dropdown(
            options=[(name.replace("_", " "), name) for name in CURVE_FIELDS],
            value="zoom",
            description="curve",
            layout=widgets.Layout(width="230px"),
            style={"description_width": "44px"},
        )
        editor_class = _editor_class()
        self.editor = editor_class() if editor_class is not None else widgets.HTML()
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
        self.overview = widgets.HTML()
        self.overview.add_class("vqtools-curves")
        row = widgets.HBox([self.curve_menu, self.frame, self.value, *self.buttons.values(), self.message])
        row.add_class("vqtools-row")
        self.view = widgets.VBox([self.overview, self.editor, row])
        self.curve_menu.observe(lambda _: self.show(self.settings), "value")
        self.buttons["put"].on_click(lambda _: self._apply_edit("add", -1, self.frame.value, self.value.value))
        self.buttons["take"].on_click(lambda _: self._apply_edit("take", -1, self.frame.value, self.value.value))
        if editor_class is not None:
            self.editor.observe(lambda change: self._apply_edit(*change["new"][:4]), "edit_request")
        self.show(settings)

    def curve(self, name: str) -> Curve:
        """A curve of the settings by its name. Raises UserError if its text can't be parsed."""
        settings = self.settings
        names = (*SIZE_VARIABLES, *(self.audio_curves or ()))
        return Curve.parse(getattr(settings, name), interpolation=settings.interpolation, variables=names)

    @property
    def _seed(self) -> int:
        """For curves with noise; if the seed is left open, the curve of seed 0 stands for all."""
        return 0 if self.settings.seed is None else self.settings.seed

    def show(self, settings: AnimateSettings) -> None:
        """Draw the curves of these settings."""
        self.settings, self.message.value = settings, ""
        curves = []
        for name in CURVE_FIELDS:
            line = self._sample_curve(name)
            if len({round(value, 9) for _, value in line}) > 1:
                curves.append(curve_svg(name.replace("_", " "), line, width=150, height=44))
        curves += [
            curve_svg(f"♪ {name}", self._audio_points(name), width=150, height=44) for name in self.audio_curves or ()
        ]
        self.overview.value = "".join(curves)
        last = max(1, settings.frames - 1)
        self.frame.max = last
        try:
            keyframes = list_keyframes(
                self.curve(self.curve_menu.value),
                settings.frames - 1,
                self._seed,
                **self._formula_variables(0),
            )
        except (UserError, KeyError, ArithmeticError):
            keyframes = []
        self._update_editor(last, self._sample_curve(self.curve_menu.value), keyframes)

    def _update_editor(self, last: int, line: list[tuple[float, float]], keyframes: list[Keyframe]) -> None:
        values = [value for _, value in line] + [point.value for point in keyframes if math.isfinite(point.value)]
        span = _value_range(values)
        if _editor_class() is None:
            self.editor.value = _static_svg(last, span, line, keyframes)
            return
        with self.editor.hold_sync():
            self.editor.last, self.editor.span = last, list(span)
            self.editor.line = [list(point) for point in line]
            self.editor.points = [list(point) for point in keyframes]

    def _formula_variables(self, frame: int) -> dict[str, float]:
        """The variables of a formula besides those of Deforum."""
        sides = dict(zip(SIZE_VARIABLES, map(float, self.settings.size), strict=True))
        return sides | {name: values[min(frame, len(values) - 1)] for name, values in (self.audio_curves or {}).items()}

    def _sample_curve(self, name: str) -> list[tuple[float, float]]:
        last = self.settings.frames - 1
        try:
            curve = self.curve(name)
        except UserError:  # such as one that follows a sound that is not analysed yet
            return []
        if not self.audio_curves:
            return sample_curve(curve, last, self._seed, self._formula_variables(0))
        points = []
        for frame, _ in sample_curve(Curve.parse("0"), last):
            try:
                points.append((frame, curve(frame, last, self._seed, **self._formula_variables(round(frame)))))
            except UserError:
                continue
        return points

    def _audio_points(self, name: str) -> list[tuple[float, float]]:
        values = (self.audio_curves or {})[name]
        return [(float(frame), float(value)) for frame, value in enumerate(values)]

    def _apply_edit(self, kind: str, index: int, frame: float, value: float) -> None:
        """Edit the chosen curve, or say in the message why it can't be edited.

        kind: "add" a point, "move" or "remove" the point with an index, or "take" away the one at a frame.
        """
        name, last, seed = self.curve_menu.value, self.settings.frames - 1, self._seed
        try:
            curve, frame = self.curve(name), round(frame)
            if kind == "move":
                text = move_keyframe(curve, index, frame, value)
            elif kind == "add":
                text = add_keyframe(curve, frame, value, last, seed)
            else:
                frames = [point.frame for point in list_keyframes(curve, last, seed, **self._formula_variables(0))]
                if kind == "take" and frame not in frames:
                    raise UserError(f"there is no point at frame {frame}; there are {', '.join(map(str, frames))}")
                text = remove_keyframe(curve, index if kind == "remove" else frames.index(frame))
            Curve.parse(text, variables=(*SIZE_VARIABLES, *(self.audio_curves or ())))
        except UserError as error:
            self.message.value = f'<span class="vqtools-error">{html.escape(str(error))}</span>'
            self.reset_points()
            return
        self.change(name, text)

    def reset_points(self) -> None:
        """Move a dot back whose edit was refused."""
        message = self.message.value
        if _editor_class() is not None:
            self.editor.points = []
        self.show(self.settings)
        self.message.value = message


def _width_layout(width: int) -> Any:
    return widgets.Layout(width=f"{width}px")


def _value_range(values: list[float]) -> tuple[float, float]:
    """The values at the bottom and the top of the large curve; a constant one has room to be dragged either way."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9:
        room = max(0.05, 0.1 * abs(low))
        return low - room, high + room
    return low - 0.15 * (high - low), high + 0.15 * (high - low)


def _static_svg(last: int, span: tuple[float, float], line: list[tuple[float, float]], points: list[Keyframe]) -> str:
    """The large curve as a static drawing."""

    def position(frame: float, value: float) -> tuple[float, float]:
        x = MARGIN + frame / last * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (value - span[0]) / (span[1] - span[0]) * (HEIGHT - 2 * MARGIN)

    polyline = " ".join(f"{x:.1f},{y:.1f}" for x, y in (position(*point) for point in line))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>frame {point.frame}: {point.value:.3g}</title></circle>'
        for point in points
        for x, y in [position(point.frame, point.value)]
    )
    rules = "".join(
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" class="vqtools-rule"/>'
        f'<text x="{MARGIN}" y="{y + shift:.1f}">{value:.3g}</text>'
        for value, shift in ((span[0], 16), (span[1], -6))
        for y in [position(0, value)[1]]
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="vqtools-large">{rules}'
        f'<polyline points="{polyline}" class="vqtools-drawn"/>{dots}</svg>'
    )
