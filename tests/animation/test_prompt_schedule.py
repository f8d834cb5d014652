"""Prompts by time: the accepted forms, and the cross-fades between texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtools.animation.prompt_schedule import parse_prompt_schedule
from vqtools.core.errors import UserError
from vqtools.painting.prompts import parse_prompts


def weights(text: str) -> dict[str, float]:
    return {prompt.text: round(prompt.weight, 6) for prompt in parse_prompts(text)}


@pytest.mark.parametrize(
    "text",
    [
        '{"0": "a forest", "120": "a burning forest:2"}',
        "{0: 'a forest', 120: 'a burning forest:2'}",
        "0: a forest, 120: a burning forest:2",
        '"0": "a forest", "max_f-79": "a burning forest:2",',
        ' {\n "0" : "a forest",\n "120" : "a burning forest:2"\n}\n',
    ],
)
def test_texts_hold_from_their_frame_on(text: str) -> None:
    schedule = parse_prompt_schedule("", text, frames=200)
    assert [schedule(frame) for frame in (0, 119, 120, 199)] == ["a forest"] * 2 + ["a burning forest:2"] * 2


def test_a_prompt_holds_until_the_first_text_or_is_its_template() -> None:
    assert parse_prompt_schedule("a sea", "50: a city", frames=100)(10) == "a sea"
    filled = parse_prompt_schedule("an oil painting of {} | blur:-0.3", "50: a city, 70: a tree", frames=100)
    assert filled(10) == filled(60) == "an oil painting of a city | blur:-0.3"
    assert filled(80) == "an oil painting of a tree | blur:-0.3"


def test_scenes_share_the_frames_or_repeat() -> None:
    schedule = parse_prompt_schedule("a forest ^ a fire | smoke:0.5 ^ ashes", frames=30)
    assert [schedule(frame) for frame in (0, 9, 10, 29)] == ["a forest", "a forest", "a fire | smoke:0.5", "ashes"]
    assert schedule.scene_prompts == ("a forest", "a fire | smoke:0.5", "ashes")
    round_and_round = parse_prompt_schedule("a ^ b", frames=30, scene_frames=5)
    assert [round_and_round(frame) for frame in (0, 5, 10, 29)] == ["a", "b", "a", "b"]
    assert parse_prompt_schedule(r"2\^3", frames=5)(0) == "2^3"


@pytest.mark.parametrize("crossfade", [0, 1, 4, 9])
def test_a_crossfade_takes_its_frames_and_keeps_the_sum_of_weights(crossfade: int) -> None:
    schedule = parse_prompt_schedule("a:2 | c ^ b:2 | c", frames=40, crossfade=crossfade)
    mixed = []
    for frame in range(40):
        current = weights(schedule(frame))
        assert current["c"] == 1
        assert current.get("a", 0) + current.get("b", 0) == pytest.approx(2)
        mixed.append("a" in current and "b" in current)
    assert sum(mixed) == crossfade and weights(schedule(19)) == {"a": 2, "c": 1}
    rising = [weights(schedule(frame)).get("b", 0) for frame in range(19, 40)]
    assert rising == sorted(rising) and rising[crossfade + 1] == 2


@pytest.mark.parametrize(
    "text",
    [
        "'apple': {10: 1, 20: 0}, 'pear': {10: 0, 20: 1}",
        "{'apple': {10: 1, 20: 0}, 'pear': {10: 0, 20: 1}}",
        '{"apple": {"10": 1, "20": 0}, "pear": {"10": 0, "20": 1}}',
        "10: (apple: 1 | pear: 0), 20: (apple: 0 | pear: 1)",
        "'apple': '10:(1), 20:(0)', 'pear': '10:(0), 20:(1)'",
    ],
)
def test_weights_can_be_curves(text: str) -> None:
    schedule = parse_prompt_schedule("ignored", text, frames=30)
    assert [weights(schedule(frame)) for frame in (0, 15, 25)] == [
        {"apple": 1},
        {"apple": 0.5, "pear": 0.5},
        {"pear": 1},
    ]


def test_weights_follow_the_audio_and_zero_weights_are_dropped() -> None:
    schedule = parse_prompt_schedule(
        "", "'fire:2': '0:(low)', 'smoke': {0: 0}", frames=9, audio=lambda frame: {"low": frame / 8}
    )
    assert weights(schedule(4)) == {"fire": 1}
    assert weights(schedule(0)) == {"fire": 0}


@pytest.mark.parametrize(
    ("prompt", "at", "message"),
    [
        ("a ^ ^ b", "", "an empty scene"),
        ("a ^ b", "0: c", "one of them"),
        ("a", '{"0": "a forest', "never closed"),
        ("a", '{"0": "x" "1": "y"}', "a comma"),
        ("a", '{"0" "x"}', "a colon"),
        ("a", "{}", "expected texts by frame"),
        ("a", "{0: 'x'} y", "nothing after"),
        ("a", "0: x, 'apple': {0: 1}", "one or the other"),
        ("a", "'apple': {0: lots}", "no variable is called 'lots'"),
        ("a", "none.lrc", "are not there"),
        ("a", "0: 'x:nan'", "must be a finite number"),
    ],
)
def test_invalid_schedules_raise_a_one_line_error(prompt: str, at: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prompt_schedule(prompt, at, frames=10)(0)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@given(st.text("{}()\"'\\:,|^0123 ax.", max_size=40))
def test_any_text_gives_prompts_or_a_one_line_error(text: str) -> None:
    try:
        schedule = parse_prompt_schedule("a", text, frames=10, crossfade=3)
        for frame in range(10):
            parse_prompts(schedule(frame))
    except UserError as error:
        assert "\n" not in str(error)
