"""Settings as data: one class per activity, from which forms, flags, tables and records are derived.

Knows fields, ranges and help texts; nothing about pictures, networks or widgets.
"""

from __future__ import annotations

import os
import secrets
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import BeforeValidator, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from vqtools.core.errors import UserError, did_you_mean, shorten


def quick_requested() -> bool:
    """Return whether VQTOOLS_QUICK=1 asks for small sizes and few steps."""
    return os.environ.get("VQTOOLS_QUICK", "") == "1"


def _parse_pair(value: object) -> object:
    """Split ``256x256``, ``256 256`` or ``256,256`` into ("256", "256"); return any other value unchanged."""
    if not isinstance(value, str):
        return value
    parts = value.lower().replace("×", "x").replace(",", "x").split("x")
    if len(parts) == 1:
        parts = value.split()
    if len(parts) != 2:
        raise UserError("must be width and height, like 256x256")
    return tuple(part.strip() for part in parts)


Size = Annotated[tuple[int, int], BeforeValidator(_parse_pair)]
"""Width and height in pixels; ``256x256`` is accepted too."""


def check_size(size: tuple[int, int], f: int) -> None:
    """Raise UserError, which names the nearest size, unless width and height are multiples of f."""
    for side, value in zip(("width", "height"), size, strict=True):
        if value % f or value < f:
            raise UserError(f"{side} {value} is not a multiple of {f}; the nearest is {max(f, round(value / f) * f)}")


def option(
    default: Any,
    *,
    help: str,
    unit: str = "",
    group: str = "basic",
    short: tuple[str, ...] = (),
    quick: Any = None,
    live: bool = True,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    lt: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] | None = None,
    widget: str = "",
    flag_name: str = "",
) -> Any:
    """Declare a field of a Settings class. Ranges apply to each number of a pair.

    short: further flags, "-sd" or "sd".
    quick: the upper limit under VQTOOLS_QUICK=1.
    live: whether a change takes effect during a run; if not, from the next run on.
    flag_name: the name of the flag, if it is not the field's; the field's name is then accepted as a hidden flag.
    """
    extra = {
        "unit": unit, "group": group, "short": ["-" + flag.lstrip("-") for flag in short], "quick": quick, "live": live,
        "ge": ge, "le": le, "gt": gt, "lt": lt, "step": step, "choices": list(choices) if choices else None,
        "widget": widget, "flag_name": flag_name,
    }  # fmt: skip
    return pydantic.Field(default=default, description=help, json_schema_extra=extra)


def size_option() -> Any:
    """Declare the field for the size of a picture."""
    text = "width and height, multiples of the VQGAN's f"
    return option((192, 192), help=text, unit="pixels", short=("s",), quick=64, live=False)


def seed_option() -> Any:
    """Declare the field for the seed; see :meth:`Settings.with_seed`."""
    return option(
        None,
        help="random seed: the same seed and settings give the same picture; empty draws a new one",
        short=("sd",),
        ge=0,
        lt=2**63,
        live=False,
    )


def network_option(help: str, *, group: str = "basic", short: tuple[str, ...] = ()) -> Any:
    """Declare a field for the name or path of a network."""
    return option("starter", help=help, group=group, short=short, live=False)


@dataclass(frozen=True)
class Option:
    """A field of a Settings class as forms, flags and tables see it; see :func:`option` for its attributes.

    type: int, float, str, bool, or tuple for a pair of numbers.
    optional: whether the value may be None.
    """

    name: str
    type: type
    optional: bool
    default: Any
    help: str
    unit: str = ""
    group: str = "basic"
    short: tuple[str, ...] = ()
    quick: Any = None
    live: bool = True
    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | None = None
    widget: str = ""
    flag_name: str = ""

    @property
    def flag(self) -> str:
        """The visible flag: ``cut_power`` -> ``--cut-power``, ``from_`` -> ``--from``."""
        return "--" + (self.flag_name or self.name).rstrip("_").replace("_", "-")

    @property
    def hidden_flag(self) -> str:
        """The flag named after the field if ``flag_name`` differs, else ""; it is accepted, but not listed."""
        return "--" + self.name.rstrip("_").replace("_", "-") if self.flag_name else ""

    @property
    def range(self) -> str:
        """The range or the choices in words: ``1 to 5000``, ``at least 0``, ``draft, normal, best``, or ""."""
        if self.choices:
            return ", ".join(self.choices)
        if self.ge is not None and self.le is not None:
            return f"{_format_limit(self.ge)} to {_format_limit(self.le)}"
        limits = (("at least", self.ge), ("more than", self.gt), ("at most", self.le), ("less than", self.lt))
        words = [f"{word} {_format_limit(limit)}" for word, limit in limits if limit is not None]
        return ", ".join(words)

    @property
    def shown_default(self) -> str:
        """The default as a user types it: ``192x192`` for a pair, "" for None."""
        if self.default is None or self.default == "":
            return ""
        return format_value(self.default)

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value of the right type, or None."""
        if value is None:
            return None
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int | float) and not self._inside(number):
                return f"must be {self.range}"
        return None

    def _inside(self, number: float) -> bool:
        return not (
            (self.ge is not None and number < self.ge)
            or (self.gt is not None and number <= self.gt)
            or (self.le is not None and number > self.le)
            or (self.lt is not None and number >= self.lt)
        )


def _format_limit(limit: float) -> str:
    """Format a limit: ``0.5``, ``4096``, ``2^63``."""
    whole = int(limit)
    if whole == limit and whole > 2**20 and whole & (whole - 1) == 0:
        return f"2^{whole.bit_length() - 1}"
    return f"{limit:,.0f}".replace(",", "") if whole == limit else f"{limit:g}"


def format_value(value: Any) -> str:
    """Format a field's value as a user types it: ``192x192``, ``on``, ``0.05``."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return "x".join(format_value(number) for number in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


class Settings(pydantic.BaseModel):
    """Base class of the settings of every activity.

    Unknown fields are errors, assignments are validated, and all values are plain (numbers, strings, pairs).
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    _options_by_class: ClassVar[dict[type, dict[str, Option]]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _pairs_from_text(cls, value: Any, info: ValidationInfo) -> Any:
        return _parse_pair(value) if cls._options_by_name()[info.field_name or ""].type is tuple else value

    @field_validator("*", mode="after")
    @classmethod
    def _in_range(cls, value: Any, info: ValidationInfo) -> Any:
        problem = cls._options_by_name()[info.field_name or ""].problem(value)
        if problem:
            raise UserError(problem)
        return value

    @classmethod
    def _options_by_name(cls) -> dict[str, Option]:
        if cls not in Settings._options_by_class:
            Settings._options_by_class[cls] = {
                name: _option_from_field(name, field) for name, field in cls.model_fields.items()
            }
        return Settings._options_by_class[cls]

    @classmethod
    def options(cls) -> list[Option]:
        """Return every field in the order of the class. Forms, flags and tables are derived from this list."""
        return list(cls._options_by_name().values())

    @classmethod
    def live_fields(cls) -> frozenset[str]:
        """Names of the fields whose changes take effect in the middle of a run, not only from the next run on."""
        return frozenset(field.name for field in cls.options() if field.live)

    @classmethod
    def problems(cls, mapping: Mapping[str, Any]) -> dict[str, str]:
        """Return the errors by field; none if :meth:`parse` would succeed. The key "" is for errors of no one field."""
        try:
            cls.model_validate(dict(mapping))
        except ValidationError as error:
            return cls._explain(error)
        return {}

    @classmethod
    def parse(cls, mapping: Mapping[str, Any]) -> Self:
        """Validate values from JSON, flags or a form.

        Raises UserError, which names every wrong field, its value and the expectation.
        """
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            fault = UserError("; ".join(cls._explain(error).values()))
            causes = [details.get("ctx", {}).get("error") for details in error.errors(include_url=False)]
            fault.pointer = "\n".join(pointer for cause in causes if (pointer := getattr(cause, "pointer", "")))
            raise fault from None

    @classmethod
    def _explain(cls, error: ValidationError) -> dict[str, str]:
        """Return one message per wrong field, in our words instead of pydantic's."""
        messages: dict[str, str] = {}
        for details in error.errors(include_url=False):
            name = str(details["loc"][0]) if details["loc"] else ""
            if name in messages:
                continue
            if details["type"] == "extra_forbidden":
                messages[name] = f"there is no setting {shorten(name)}{did_you_mean(name, cls.model_fields)}"
                continue
            message = " ".join(details["msg"].removeprefix("Value error, ").split())
            message = message.replace("Input should be", "must be")
            message = message.replace("Tuple should have", "must have").replace(" after validation", "")
            message = message.replace("valid integer, unable to parse string as an integer", "whole number")
            message = message.replace("valid number, unable to parse string as a number", "number")
            title = (cls._options_by_name()[name].flag_name if name in cls.model_fields else "") or name
            messages[name] = f"{title} {shorten(details['input'])}: {message}" if name else message
        return messages

    def with_seed(self) -> Self:
        """Return a copy with a seed: the one that is set, else a random one in [0, 2**32)."""
        seed = getattr(self, "seed", None)
        return self.model_copy(update={"seed": secrets.randbelow(2**32) if seed is None else seed})

    @property
    def known_seed(self) -> int:
        """The seed as a number. Raises ValueError if it is not set: call :meth:`with_seed` first."""
        seed = getattr(self, "seed", None)
        if seed is None:
            raise ValueError("these settings have no seed yet; call with_seed() first")
        return int(seed)

    def quick(self) -> Self:
        """Return a copy in which no field exceeds its ``quick`` value; self unless VQTOOLS_QUICK=1 is set."""
        if not quick_requested():
            return self
        smaller = {
            field.name: _clamp_to(getattr(self, field.name), field.quick)
            for field in self.options()
            if field.quick is not None and getattr(self, field.name) is not None
        }
        return self.model_copy(update=smaller)


def settings_table(settings_class: type[Settings], argument: str = "") -> str:
    """Return the Markdown table of a settings class. argument: the field that is the command's argument, not a flag."""
    lines = ["| flag | what it does | default | range |", "| --- | --- | --- | --- |"]
    for field in settings_class.options():
        flags = ", ".join(f"`{flag}`" for flag in (field.flag, *field.short))
        flags = f"`{argument.upper()}`" if field.name == argument else flags
        default = f"`{field.shown_default}`" if field.shown_default else ""
        text = f"{field.help} ({field.unit})" if field.unit else field.help
        cells = (flags, text, default, field.range)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _clamp_to(value: Any, limit: Any) -> Any:
    """Return a number or a pair, each number at most the limit (of its place, if the limit is a pair)."""
    if isinstance(value, tuple):
        limits = limit if isinstance(limit, tuple | list) else (limit,) * len(value)
        return tuple(min(number, maximum) for number, maximum in zip(value, limits, strict=True))
    return min(value, limit)


def _option_from_field(name: str, field: FieldInfo) -> Option:
    """Describe a pydantic field. Raises TypeError for a type that has no widget and no flag."""
    extra = dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}
    kind: Any = field.annotation
    optional = False
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(kind))
        if len(parts) != 1:
            raise TypeError(f"{name}: {kind} is more than one type or None; forms and flags need one")
        kind = parts[0]
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        extra["choices"] = list(typing.get_args(kind))
        kind = str
    kind = typing.get_origin(kind) or kind
    if kind not in (int, float, str, bool, tuple):
        raise TypeError(f"{name}: {kind} has no widget and no flag; use int, float, str, bool or Size")
    values: dict[str, Any] = dict(extra)
    values["short"] = tuple(values.get("short") or ())
    values["choices"] = tuple(values["choices"]) if values.get("choices") else None
    return Option(
        name=name, type=kind, optional=optional, default=field.default, help=field.description or "", **values
    )
