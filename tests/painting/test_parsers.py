"""Parsers of text fields: palettes, boxes and regions."""

import pytest

from vqtools.core.errors import UserError
from vqtools.painting.parsers import parse_area, parse_palette, parse_regions
from vqtools.painting.settings import PaintSettings


def test_a_palette_parses_to_colours() -> None:
    assert parse_palette("#d62828, #000aFF") == [(0xD6, 0x28, 0x28), (0, 10, 255)]
    for text in ("red", "#12", "#ffffff " * 65):
        with pytest.raises(UserError, match="colour"):
            PaintSettings.parse({"palette": text})


def test_regions_parse_to_boxes_and_files() -> None:
    assert parse_regions("1=0,0,0.5,1 | 3= mask.png ") == {0: (0, 0, 0.5, 1), 2: "mask.png"}
    assert parse_area("a,b") == "a,b" and parse_regions(" ") == {}
    for text, says in (
        ("1=0,0,1.5,1", "outside the picture"), ("1=0.5,0,0.5,1", "empty"), ("1=nan,0,1,1", "outside"),
        ("left=0,0,1,1", "a prompt's number"), ("0=0,0,1,1", "a prompt's number"), ("1=", "and an area"),
        ("1=a.png | 1=b.png", "two regions"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            PaintSettings.parse({"regions": text})
