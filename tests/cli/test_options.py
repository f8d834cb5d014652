"""Flags made from settings classes: their names, the names they had before, and the two ways to write a pair."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from vqtools.cli.options import SettingsCommand, field_name, fields_from_flags, join_prompt
from vqtools.core.errors import UserError
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.settings import SampleSettings


@click.command(cls=SettingsCommand, settings=lambda: PaintSettings)
@click.argument("prompt", nargs=-1)
def toy(prompt: tuple[str, ...], **flags: object) -> None:
    click.echo(sorted(fields_from_flags(flags).items()))


@pytest.mark.parametrize("flags", [("--renderer", "--candidates"), ("--drawer", "--grids")])
def test_renamed_flags_set_the_same_fields_under_both_names(flags: tuple[str, str]) -> None:
    result = CliRunner().invoke(toy, [flags[0], "pixels", flags[1], "4"], catch_exceptions=False)
    assert result.output == "[('drawer', 'pixels'), ('grids', '4')]\n"


def test_help_lists_the_new_names_and_not_the_former_ones() -> None:
    shown = CliRunner().invoke(toy, ["--help"]).output
    assert "--renderer" in shown and "--candidates" in shown
    assert "--drawer" not in shown and "--grids" not in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--drawer", "pixels", "--renderer", "pixels"], "drawer is given twice, once under its former name"),
        (["--size", "64x64", "-s", "64", "64"], "size is given twice; use either --size WxH or -s W H"),
        (["-s", "64", "64", "--size", "64x64"], "size is given twice; use either --size WxH or -s W H"),
    ],
)
def test_a_field_set_in_two_ways_is_an_error(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        CliRunner().invoke(toy, arguments, catch_exceptions=False)


def test_errors_name_a_field_as_its_flag() -> None:
    with pytest.raises(UserError, match="renderer 'easel': must be"):
        PaintSettings.parse({"drawer": "easel"})


def test_field_name_accepts_flags_and_fields() -> None:
    assert field_name("learning-rate", PaintSettings) == field_name("learning_rate", PaintSettings) == "learning_rate"
    assert field_name("renderer", PaintSettings) == field_name("drawer", PaintSettings) == "drawer"
    assert field_name("--candidates", SampleSettings) == "grids"
    assert field_name("no-such", PaintSettings) == "no_such"


def test_an_unquoted_prompt_is_an_error_that_shows_the_quotes() -> None:
    assert join_prompt((), "paint") is None and join_prompt(("a red apple",), "paint") == "a red apple"
    with pytest.raises(UserError, match='put it in quotes: vqtools paint "a red apple"'):
        join_prompt(("a", "red", "apple"), "paint")
