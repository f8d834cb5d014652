"""Prompts by time: the forms that are read, the fades between, timed lyrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtools.animation.lyrics import read_lyrics
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
def test_texts_by_frame(text: str) -> None:
    shown = parse_prompt_schedule("", text, frames=200)
    assert [shown(frame) for frame in (0, 119, 120, 199)] == ["a forest"] * 2 + ["a burning forest:2"] * 2


def test_a_prompt_holds_until_the_first_and_braces_in_it_are_filled() -> None:
    assert parse_prompt_schedule("a sea", "50: a city", frames=100)(10) == "a sea"
    filled = parse_prompt_schedule("an oil painting of {} | blur:-0.3", "50: a city, 70: a tree", frames=100)
    assert filled(10) == filled(60) == "an oil painting of a city | blur:-0.3"
    assert filled(80) == "an oil painting of a tree | blur:-0.3"


def test_scenes_share_the_frames_or_go_round() -> None:
    shown = parse_prompt_schedule("a forest ^ a fire | smoke:0.5 ^ ashes", frames=30)
    assert [shown(frame) for frame in (0, 9, 10, 29)] == ["a forest", "a forest", "a fire | smoke:0.5", "ashes"]
    assert shown.scene_prompts == ("a forest", "a fire | smoke:0.5", "ashes")
    round_and_round = parse_prompt_schedule("a ^ b", frames=30, scene_frames=5)
    assert [round_and_round(frame) for frame in (0, 5, 10, 29)] == ["a", "b", "a", "b"]
    assert parse_prompt_schedule(r"2\^3", frames=5)(0) == "2^3"


@pytest.mark.parametrize("fade", [0, 1, 4, 9])
def test_a_fade_goes_over_so_many_frames_and_keeps_the_sum(fade: int) -> None:
    shown = parse_prompt_schedule("a:2 | c ^ b:2 | c", frames=40, crossfade=fade)
    mixed = []
    for frame in range(40):
        found = weights(shown(frame))
        assert found["c"] == 1
        assert found.get("a", 0) + found.get("b", 0) == pytest.approx(2)
        mixed.append("a" in found and "b" in found)
    assert sum(mixed) == fade and weights(shown(19)) == {"a": 2, "c": 1}
    rising = [weights(shown(frame)).get("b", 0) for frame in range(19, 40)]
    assert rising == sorted(rising) and rising[fade + 1] == 2


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
def test_weights_as_curves(text: str) -> None:
    shown = parse_prompt_schedule("ignored", text, frames=30)
    assert [weights(shown(frame)) for frame in (0, 15, 25)] == [{"apple": 1}, {"apple": 0.5, "pear": 0.5}, {"pear": 1}]


def test_weights_that_follow_sound_and_weights_of_nothing() -> None:
    shown = parse_prompt_schedule(
        "", "'fire:2': '0:(low)', 'smoke': {0: 0}", frames=9, audio=lambda frame: {"low": frame / 8}
    )
    assert weights(shown(4)) == {"fire": 1}
    assert weights(shown(0)) == {"fire": 0}


LRC = """[ar:Somebody]
[offset:+500]
[00:02.50]A <00:03.00>red apple
[00:05.00][00:12.5]the train at 12:30 | gone
[01:00]
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
<i>A forest</i>
at night

2
00:01:00,250 --> 00:01:04,000
Ashes
"""


def test_timed_lyrics(tmp_path: Path) -> None:
    lrc, srt = tmp_path / "song.lrc", tmp_path / "FILM.SRT"
    lrc.write_text(LRC, "utf-8-sig")
    srt.write_text(SRT.replace("\n", "\r\n"), newline="")
    assert read_lyrics(lrc) == [
        (2.0, "A red apple"),
        (4.5, "the train at 12:30 | gone"),
        (12.0, "the train at 12:30 | gone"),
    ]
    assert read_lyrics(srt) == [(1.0, "A forest at night"), (60.25, "Ashes")]
    shown = parse_prompt_schedule("a sea", str(lrc), frames=100, fps=10)
    assert shown(19) == "a sea" and shown(20) == "A red apple"
    assert weights(shown(45)) == {"the train at 12:30 | gone": 1}  # signs of the grammar are text here
    assert parse_prompt_schedule("a sketch of {}", str(srt), frames=100, fps=1)(60) == "a sketch of Ashes"


@pytest.mark.parametrize(
    ("prompt", "at", "says"),
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
def test_what_cannot_be_read(prompt: str, at: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prompt_schedule(prompt, at, frames=10)(0)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@given(st.text("{}()\"'\\:,|^0123 ax.", max_size=40))
def test_any_text_is_prompts_or_one_clear_line(text: str) -> None:
    try:
        shown = parse_prompt_schedule("a", text, frames=10, crossfade=3)
        for frame in range(10):
            parse_prompts(shown(frame))
    except UserError as error:
        assert "\n" not in str(error)
