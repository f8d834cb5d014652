"""A settings class as a command's flags.

Knows fields and click; nothing about what a command does. Values stay text: the settings class says what is wrong
with them, as it does in a panel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from vqtools.core.errors import UserError
from vqtools.core.settings import Option, Settings

STOPPED = 130  # exit code after Ctrl-C, with what was made kept
_PAIR_SUFFIX = "__pair"  # `-s 256 256` beside `--size 256x256`


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and isinstance(context.obj, dict):
        context.obj["debug"] = True


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of a fault."
)


class SettingsCommand(click.Command):
    """A command whose flags are the fields of a settings class, which is imported when they are first asked for."""

    def __init__(
        self, *args: Any, settings: Callable[[], type[Settings]], argument: str = "prompt", **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        self._settings, self._argument = settings, argument

    @functools.cached_property
    def setting_options(self) -> list[tuple[str, click.Option]]:
        """(group, flag) for every field but the one that is the command's argument."""
        fields = (one for one in self._settings().options() if one.name != self._argument)
        return [(one.group, flag) for one in fields for flag in _click_options(one)]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*(flag for _, flag in self.setting_options), *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        own = [("the command", one) for one in super().get_params(ctx)]
        for group, flag in [*self.setting_options, *own]:
            if row := flag.get_help_record(ctx):
                groups.setdefault(group, []).append(row)
        for group, rows in groups.items():
            with formatter.section(group.capitalize()):
                formatter.write_dl(rows)


def _click_options(one: Option) -> list[click.Option]:
    """A field's flags; a pair may be written in two ways."""
    words = [one.help, f"({one.unit})" if one.unit else "", _limits_text(one)]
    text = " ".join(word for word in words if word)
    if one.type is bool:
        return [click.Option([f"{one.flag}/--no-{one.flag[2:]}", one.name], default=None, help=text)]
    if one.type is tuple:
        pair = (
            [click.Option([*one.short, one.name + _PAIR_SUFFIX], nargs=2, type=str, hidden=True)] if one.short else []
        )
        also = "".join(f" Also {short} W H." for short in one.short)
        return [click.Option([one.flag, one.name], type=str, metavar="WxH", help=text + also), *pair]
    kinds = {int: "NUMBER", float: "NUMBER", str: "TEXT"}
    shown = "|".join(one.choices) if one.choices else kinds[one.type]
    return [click.Option([*one.short, one.flag, one.name], type=str, metavar=shown, help=text)]


def _limits_text(one: Option) -> str:
    default = f"default {one.shown_default}" if one.shown_default else ""
    words = [word for word in (default, "" if one.choices else one.range) if word]
    return f"[{'; '.join(words)}]" if words else ""


def fields_from_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """The fields that were set by flags, by name; a pair may have come in either form."""
    fields = {name: value for name, value in flags.items() if value is not None and not name.endswith(_PAIR_SUFFIX)}
    for name, value in flags.items():
        if name.endswith(_PAIR_SUFFIX) and value is not None:
            name = name.removesuffix(_PAIR_SUFFIX)
            if name in fields:
                raise UserError(f"{name} is given twice; one of --{name} WxH and -{name[0]} W H is enough")
            fields[name] = value
    return fields
