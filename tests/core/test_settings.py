"""The settings class: parsing, errors, options, the quick rule, the table."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vqtools.core.errors import UserError
from vqtools.core.settings import Settings, Size, format_value, option, settings_table


class Toy(Settings):
    title: str = option("a | b", help="what it is called")
    size: Size = option((192, 192), help="width and height", unit="pixels", short=("s",), quick=64, ge=8, le=4096)
    steps: int = option(500, help="how many", short=("-i",), quick=3, ge=1)
    seed: int | None = option(None, help="start of the draws", live=False, ge=0, lt=2**63)
    rate: float = option(0.1, help="step size", gt=0, group="advanced")
    preset: Literal["draft", "best"] = option("draft", help="how good")
    mode: str = option("wrap", help="borders", choices=("wrap", "zeros"))
    smooth: bool = option(True, help="smoothly")


@pytest.mark.parametrize("text", ["256x128", "256X128", "256 128", "256,128", " 256 x 128 ", "256×128"])
def test_a_size_is_parsed_from_every_common_notation(text: str) -> None:
    assert Toy.parse({"size": text}).size == (256, 128)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("steps", 0, "steps 0: must be at least 1"),
        ("steps", "ten", "steps 'ten': must be a whole number"),
        ("steps", 1.5, "steps 1.5"),
        ("rate", 0, "rate 0: must be more than 0"),
        ("rate", float("nan"), "rate nan: must be a finite number"),
        ("rate", "inf", "rate 'inf': must be a finite number"),
        ("seed", -1, "seed -1: must be at least 0, less than 2^63"),
        ("size", "256", "width and height, like 256x256"),
        ("size", (4, 64), "must be 8 to 4096"),
        ("size", (64, 64, 64), "at most 2 items"),
        ("preset", "bset", "must be 'draft' or 'best'"),
        ("mode", "tile", "must be one of wrap, zeros"),
        ("stpes", 3, "there is no setting 'stpes'; did you mean 'steps'?"),
    ],
)
def test_errors_name_the_value_and_the_expectation(field: str, value: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        Toy.parse({field: value})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert field in Toy.problems({field: value})


def test_every_wrong_field_is_named_once() -> None:
    assert list(Toy.problems({"steps": 0, "rate": -1, "title": "fine"})) == ["steps", "rate"]
    with pytest.raises(UserError, match=r"steps 0: .*; rate -1: "):
        Toy.parse({"steps": 0, "rate": -1})
    assert Toy.problems({}) == {}


def test_assignment_is_checked_too() -> None:
    toy = Toy()
    with pytest.raises(ValidationError):
        toy.steps = 0
    toy.steps = 7
    assert toy.steps == 7


def test_options_describe_every_field() -> None:
    options = {field.name: field for field in Toy.options()}
    assert list(options) == list(Toy.model_fields)
    assert options["size"].type is tuple and options["size"].short == ("-s",) and options["size"].unit == "pixels"
    assert options["seed"].type is int and options["seed"].optional and not options["seed"].live
    assert options["preset"].choices == ("draft", "best") and options["preset"].type is str
    assert options["steps"].flag == "--steps" and options["steps"].range == "at least 1"
    assert options["rate"].group == "advanced" and options["smooth"].type is bool


def test_a_field_type_without_widget_is_an_error() -> None:
    class Odd(Settings):
        names: list[str] = option([], help="names")

    with pytest.raises(TypeError, match="names"):
        Odd.options()


def test_quick_reduces_fields_and_never_increases_them(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(steps=2, size=(32, 128))
    assert toy.quick() is toy
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    assert toy.quick().size == (32, 64)
    assert toy.quick().steps == 2
    assert Toy().quick().steps == 3
    assert Toy().quick().rate == Toy().rate


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "title": st.text(),
            "size": st.tuples(st.integers(8, 4096), st.integers(8, 4096)),
            "steps": st.integers(1, 10**9),
            "seed": st.none() | st.integers(0, 2**63 - 1),
            "rate": st.floats(min_value=1e-300, allow_infinity=False),
            "smooth": st.booleans(),
        },
    )
)
def test_json_restores_equal_settings(fields: dict[str, Any]) -> None:
    toy = Toy.parse(fields)
    assert Toy.model_validate_json(toy.model_dump_json()) == toy
    assert Toy.parse(toy.model_dump(mode="json")) == toy


def test_a_formatted_value_parses_to_the_same_value() -> None:
    assert format_value((192, 64)) == "192x64"
    assert Toy.parse(
        {"size": format_value((192, 64)), "smooth": format_value(False), "rate": format_value(0.05)}
    ) == Toy(size=(192, 64), smooth=False, rate=0.05)


def test_the_table_has_one_row_per_field() -> None:
    lines = settings_table(Toy).splitlines()
    assert len(lines) == 2 + len(Toy.model_fields)
    assert "| `--size`, `-s` | width and height (pixels) | `192x192` | 8 to 4096 |" in lines
    assert "| `--title` | what it is called | `a \\| b` |  |" in lines


def test_a_missing_seed_is_drawn_once_and_seed_0_is_kept() -> None:
    drawn = Toy().with_seed()
    assert drawn.seed is not None and drawn.with_seed() == drawn
    assert Toy(seed=0).with_seed().known_seed == 0
    with pytest.raises(ValueError, match="no seed yet"):
        _ = Toy().known_seed
