"""The fields of a settings class as the flags of a command.

Knows fields and click; nothing about what a command does. Flags pass their values on as text: the settings class
checks them, as it does in a panel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from vqtools.core.errors import UserError
from vqtools.core.settings import Option, Settings

STOPPED = 130
"""The exit code after Ctrl-C, with what was made until then kept."""

_PAIR_SUFFIX = "__pair"  # the parameter of `-s 256 256`, beside that of `--size 256x256`
_HIDDEN_SUFFIX = "__hidden"  # the parameter of a flag that is accepted under the name it had before


def _set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and isinstance(context.obj, dict):
        context.obj["debug"] = True


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of an internal error."
)


class SettingsCommand(click.Command):
    """A command whose flags are the fields of a settings class.

    ``settings`` returns the class and is called only when the flags are needed, so that importing the commands stays
    fast. ``argument`` names the field that is the command's positional argument and therefore no flag.
    """

    def __init__(
        self, *args: Any, settings: Callable[[], type[Settings]], argument: str = "prompt", **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        self._settings, self._argument = settings, argument

    @functools.cached_property
    def setting_options(self) -> list[tuple[str, click.Option]]:
        """(group, click option) for every flag of every field but the positional argument."""
        fields = (field for field in self._settings().options() if field.name != self._argument)
        return [(field.group, flag) for field in fields for flag in _click_options(field)]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the flags of the settings, followed by the command's own parameters."""
        return [*(flag for _, flag in self.setting_options), *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the flags, one section for each group of fields and a last one for the command's own."""
        groups: dict[str, list[tuple[str, str]]] = {}
        own = [("the command", parameter) for parameter in super().get_params(ctx)]
        for group, flag in [*self.setting_options, *own]:
            if row := flag.get_help_record(ctx):
                groups.setdefault(group, []).append(row)
        for group, rows in groups.items():
            with formatter.section(group.capitalize()):
                formatter.write_dl(rows)


def _click_options(field: Option) -> list[click.Option]:
    """Return the click options of a field: the visible one, and hidden ones for other ways to write it."""
    words = [field.help, f"({field.unit})" if field.unit else "", _limits_text(field)]
    text = " ".join(word for word in words if word)
    if field.type is bool:
        return [click.Option([f"{field.flag}/--no-{field.flag[2:]}", field.name], default=None, help=text)]
    hidden = []
    if field.hidden_flag:
        hidden = [click.Option([field.hidden_flag, field.name + _HIDDEN_SUFFIX], type=str, hidden=True)]
    if field.type is tuple:
        if field.short:
            hidden.append(click.Option([*field.short, field.name + _PAIR_SUFFIX], nargs=2, type=str, hidden=True))
        text += "".join(f" Also {short} W H." for short in field.short)
        return [click.Option([field.flag, field.name], type=str, metavar="WxH", help=text), *hidden]
    metavar = "|".join(field.choices) if field.choices else {int: "NUMBER", float: "NUMBER", str: "TEXT"}[field.type]
    return [click.Option([*field.short, field.flag, field.name], type=str, metavar=metavar, help=text), *hidden]


def _limits_text(field: Option) -> str:
    default = f"default {field.shown_default}" if field.shown_default else ""
    words = [word for word in (default, "" if field.choices else field.range) if word]
    return f"[{'; '.join(words)}]" if words else ""


def fields_from_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that flags have set, by field name, whichever way each flag was written.

    Raises UserError if one field is set in two ways.
    """
    fields: dict[str, Any] = {}
    for parameter, value in flags.items():
        if value is None:
            continue
        name = parameter.removesuffix(_PAIR_SUFFIX).removesuffix(_HIDDEN_SUFFIX)
        if name in fields:
            if flags.get(name + _PAIR_SUFFIX) is not None:
                raise UserError(f"{name} is given twice; use either --{name} WxH or -{name[0]} W H")
            raise UserError(f"{name} is given twice, once under its former name; use one of the two flags")
        fields[name] = value
    return fields


def field_name(flag: str, settings_class: type[Settings]) -> str:
    """Return the name of the field that a flag sets: `learning-rate` -> `learning_rate`, `renderer` -> `drawer`.

    An unknown flag is returned with underscores; the settings class then reports it.
    """
    flag = flag.strip().lstrip("-").replace("_", "-")
    names = {field.flag: field.name for field in settings_class.options()}
    return names.get("--" + flag, flag.replace("-", "_"))


def join_prompt(words: Sequence[str], command: str) -> str | None:
    """Return the prompt of a command that takes one argument, or None if there is none.

    Raises UserError if the prompt was not quoted, so that the shell has split it into several arguments.
    """
    if len(words) > 1:
        raise UserError(f'the prompt is one argument; put it in quotes: vqtools {command} "{" ".join(words)}"')
    return words[0] if words else None
