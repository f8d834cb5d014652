from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vqtools.core.errors import UserError
from vqtools.painting.prompts import Prompt, format_prompts, parse_prompts

# pieces that mean something here are frequent
PIECES = st.sampled_from([":", "|", "\\", " ", ":3", ": -0.5", ":1e9 ", ":nan", ":.5:inf", "+", "\n", "12:30", "apple"])
ANY_TEXT = st.one_of(st.lists(PIECES, min_size=1, max_size=8).map("".join), st.text())
TEXT = ANY_TEXT.filter(lambda text: bool(text.strip()))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PROMPTS = st.lists(
    st.builds(Prompt, TEXT.map(str.strip), FINITE, st.one_of(st.just(-math.inf), FINITE)), min_size=1, max_size=4
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red apple", [Prompt("a red apple")]),
        ("a red apple:2 | blur:-0.5", [Prompt("a red apple", 2), Prompt("blur", -0.5)]),
        ("blur:-0.3:-0.8", [Prompt("blur", -0.3, -0.8)]),
        (" a castle : 1.5 |fog", [Prompt("a castle", 1.5), Prompt("fog")]),
        ("12:30 clock", [Prompt("12:30 clock")]),
        ("12:30 clock:2", [Prompt("12:30 clock", 2)]),
        (r"the train at 12\:30", [Prompt("the train at 12:30")]),
        (r"either \| or", [Prompt("either | or")]),
        (r"a \\:3", [Prompt("a \\", 3)]),
        ("4:3:2:1", [Prompt("4:3", 2, 1)]),
        ("apple:1e-1", [Prompt("apple", 0.1)]),
        ("apple:1:-inf", [Prompt("apple")]),
        ("apple:", [Prompt("apple:")]),
        ("a\\b", [Prompt("a\\b")]),
        ("apple:1_000", [Prompt("apple:1_000")]),
    ],
)
def test_parse(text: str, expected: list[Prompt]) -> None:
    assert parse_prompts(text) == expected


@pytest.mark.parametrize(
    "text", ["", "  ", "|", "apple |", ":2", "apple:nan", "apple:inf", "apple:-Infinity", "apple:1e999", "apple:1:nan",
             "apple:1:inf", "a | | b"]
)  # fmt: skip
def test_invalid_prompts_are_errors_of_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prompts(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@settings(max_examples=300)
@example([Prompt("a:3", 2)])
@given(PROMPTS)
def test_parsing_undoes_formatting(prompts: list[Prompt]) -> None:
    assert parse_prompts(format_prompts(prompts)) == prompts


@given(ANY_TEXT)
def test_any_text_parses_or_is_a_user_error(text: str) -> None:
    try:
        prompts = parse_prompts(text)
    except UserError:
        return
    assert parse_prompts(format_prompts(prompts)) == prompts
    assert all(math.isfinite(prompt.weight) for prompt in prompts)


def test_a_plain_prompt_is_formatted_plainly() -> None:
    assert format_prompts(parse_prompts("12:30 clock | blur:-0.50")) == "12:30 clock | blur:-0.5"
