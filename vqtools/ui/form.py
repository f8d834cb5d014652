"""A form made from a settings class, and settings read from the form.

Knows fields, ranges and widgets; nothing about what the settings are for. Uses only stock widgets that both ipywidgets
7.7 and 8 have.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import ipywidgets as widgets

from vqtools.core.errors import shorten
from vqtools.core.settings import Option, Settings

S = TypeVar("S", bound=Settings)
LABELS = {"vqgan": "VQGAN", "clip": "CLIP", "ema": "EMA"}
LABEL_WIDTH = "88px"
_MAX_TOGGLES = 4  # choices that are shown as buttons, not as a menu


class Form(Generic[S]):
    """Fields of the group "basic" in view, the other groups folded away, help on hover.

    apart: fields that ``body`` leaves out; place their ``row(name)`` elsewhere.
    suggestions: offered where a name is typed.
    on_change(name): called after a person has changed a field, not after :meth:`set` and :meth:`load`.
    """

    def __init__(
        self,
        settings: S,
        *,
        apart: Iterable[str] = (),
        suggestions: Mapping[str, Iterable[str]] | None = None,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._class: type[S] = type(settings)
        self._loading = False
        self.on_change = on_change
        self._fields: dict[str, _Field] = {}
        groups: dict[str, list[Any]] = {"basic": []}
        for option in self._class.options():
            is_apart = option.name in apart
            field = _Field(option, is_apart, tuple((suggestions or {}).get(option.name, ())), self._changed)
            self._fields[option.name] = field
            if not is_apart:
                groups.setdefault(option.group, []).append(field.row)
        folded = {name: widgets.VBox(rows) for name, rows in groups.items() if name != "basic"}
        accordion = widgets.Accordion(children=list(folded.values()), selected_index=None)
        for index, name in enumerate(folded):
            accordion.set_title(index, name)
        self.body = widgets.VBox([*groups["basic"], accordion] if folded else groups["basic"])
        self.body.add_class("vqtools-form")
        self.load(settings)

    def row(self, name: str) -> Any:
        """The widget of one field, with its note."""
        return self._fields[name].row

    def inputs(self, name: str) -> list[Any]:
        """The widgets that hold a field's value: one, or two for a pair."""
        return self._fields[name].inputs

    def values(self) -> dict[str, Any]:
        """The values in the form, valid or not."""
        return {name: field.value for name, field in self._fields.items()}

    def problems(self) -> dict[str, str]:
        """What is wrong in the form, by field; empty if the settings are valid."""
        return self._class.problems(self.values())

    def settings(self) -> S:
        """The settings. Marks every invalid field and raises UserError if there are any."""
        values = self.values()
        self._mark(self._class.problems(values))
        return self._class.parse(values)

    def load(self, settings: S) -> None:
        """Show these settings; :meth:`settings` then returns equal ones."""
        self.set(**{option.name: getattr(settings, option.name) for option in self._class.options()})

    def set(self, **values: Any) -> None:
        """Change some fields at once, without calling ``on_change``."""
        self._loading = True
        try:
            for name, value in values.items():
                self._fields[name].value = value
        finally:
            self._loading = False
        self._mark(self._class.problems(self.values()))

    def note(self, name: str, text: str, *, wrong: bool = False) -> None:
        """Show a note under a field, until :meth:`clear_notes`; if ``wrong``, in red and until the field is valid."""
        self._fields[name].show_note(text, wrong)

    def clear_notes(self) -> None:
        """Remove all notes and marks."""
        for field in self._fields.values():
            field.show_note("", False)

    def _changed(self, name: str) -> None:
        if self._loading:
            return
        self._mark(self._class.problems(self.values()))
        if self.on_change is not None:
            self.on_change(name)

    def _mark(self, problems: dict[str, str]) -> None:
        for name, field in self._fields.items():
            if name in problems:
                field.show_note(problems[name].removeprefix(f"{name} {shorten(field.value)}: "), True)
            elif field.wrong:
                field.show_note("", False)


class _Field:
    """One option: its widgets, its row, and the note below."""

    def __init__(
        self, option: Option, wide: bool, suggestions: tuple[str, ...], changed: Callable[[str], None]
    ) -> None:
        self.option = option
        self.wrong = False
        self.inputs: list[Any] = _create_inputs(option, wide, suggestions)
        row = list(self.inputs)
        if option.name == "seed":
            draw = widgets.Button(
                description="new", tooltip="draw a random seed", layout=widgets.Layout(width="56px", flex="0 0 auto")
            )
            draw.on_click(lambda _: self._draw_seed())
            self.inputs[0].layout.flex = "1 1 auto"
            row.append(draw)
        self._note = widgets.HTML(layout=widgets.Layout(display="none"))
        self._note.add_class("vqtools-note")
        # over the label: the text inputs of ipywidgets 8 don't show their own tooltip
        help = widgets.HTML(f'<span title="{html.escape(_help_text(option))}"></span>')
        help.add_class("vqtools-help")
        self.row = widgets.VBox([widgets.HBox(row) if len(row) > 1 else row[0], help, self._note])
        self.row.add_class("vqtools-field")
        for widget in self.inputs:
            widget.observe(lambda _: changed(option.name), names=["value"])

    @property
    def value(self) -> Any:
        """The value in the widgets; the text itself if it can't be parsed."""
        if self.option.type is tuple:
            return tuple(widget.value for widget in self.inputs)
        value = self.inputs[0].value
        return _parse_text(value, self.option) if self.option.optional else value

    @value.setter
    def value(self, value: Any) -> None:
        if self.option.type is tuple:
            for widget, part in zip(self.inputs, value, strict=True):
                widget.value = part
        elif self.option.optional:
            self.inputs[0].value = "" if value is None else str(value)
        else:
            self.inputs[0].value = value

    def show_note(self, text: str, wrong: bool) -> None:
        """Show a note, "" for none; ``wrong``: in red."""
        self.wrong = wrong
        self._note.value = html.escape(text)
        self._note.layout.display = "" if text else "none"
        if wrong:
            self.row.add_class("vqtools-wrong")
        else:
            self.row.remove_class("vqtools-wrong")

    def _draw_seed(self) -> None:
        self.inputs[0].value = str(secrets.randbelow(2**31))


def _create_inputs(option: Option, wide: bool, suggestions: tuple[str, ...]) -> list[Any]:
    """The widgets for an option's type; an optional number is a text field that can be empty."""
    common: dict[str, Any] = {
        "description": LABELS.get(option.name, (option.flag_name or option.name).replace("_", " ")),
        "style": {"description_width": LABEL_WIDTH},
        "layout": widgets.Layout(width="auto"),
    }
    widget_class: Any
    if option.choices:
        few = option.group == "basic" and len(option.choices) <= _MAX_TOGGLES
        widget_class = widgets.ToggleButtons if few else widgets.Dropdown
        common["options"] = list(option.choices)
        if few:
            common["style"] = {"description_width": LABEL_WIDTH, "button_width": "auto"}
    elif option.type is bool:
        widget_class = widgets.Checkbox
    elif option.type in (int, float, tuple) and not option.optional:
        widget_class = widgets.FloatText if option.type is float else widgets.IntText
        if option.step is not None:
            common["step"] = option.step
    else:
        widget_class = widgets.Textarea if wide else widgets.Combobox if suggestions else widgets.Text
        common["continuous_update"] = False
        if wide:
            common["rows"] = 1
        if suggestions:
            common["options"] = list(suggestions)
        if option.optional:
            common["placeholder"] = "a new one each time"
    first = widget_class(**common)
    inputs = [first]
    if option.type is tuple:
        first.layout.width = "170px"
        second = {"description": "×", "style": {"description_width": "16px"}, "layout": widgets.Layout(width="98px")}
        inputs.append(widget_class(**{**common, **second}))
    return inputs


def _help_text(option: Option) -> str:
    limits = ", ".join(part for part in (option.unit, option.range) if part)
    return f"{option.help} ({limits})" if limits else option.help


def _parse_text(text: str, option: Option) -> Any:
    """The value of an optional field; a text that is not a number is returned as it is, to be marked as wrong."""
    if not text.strip():
        return None
    try:
        return option.type(text)
    except ValueError:
        return text
