"""The texts inside error messages."""

from __future__ import annotations

from vqtools.core.errors import did_you_mean, ellipsize, shorten, shorten_error


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert ellipsize("apple", 5) == "apple"
    assert ellipsize("apples", 5) == "appl…"


def test_a_long_value_is_shortened_to_80_characters() -> None:
    assert len(shorten("x" * 500)) == 80
    assert shorten("a\nb") == r"'a\nb'"


def test_an_exception_is_shortened_to_its_first_line() -> None:
    assert shorten_error(ValueError("first\nsecond")) == "first"
    assert shorten_error(ValueError()) == "ValueError"
    assert len(shorten_error(ValueError("x" * 500))) == 120


def test_an_unknown_name_suggests_the_nearest_or_lists_all() -> None:
    assert did_you_mean("startr", ["starter", "mine"]) == "; did you mean 'starter'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; there are a, b"
    assert did_you_mean("zzz", []) == ""
