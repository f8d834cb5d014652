"""Timed text is read from LRC and SRT files."""

from __future__ import annotations

from pathlib import Path

from vqtools.animation.lyrics import read_lyrics
from vqtools.animation.prompt_schedule import parse_prompt_schedule
from vqtools.painting.prompts import parse_prompts


def weights(text: str) -> dict[str, float]:
    return {prompt.text: round(prompt.weight, 6) for prompt in parse_prompts(text)}


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


def test_lrc_and_srt_lines_become_prompts_by_time(tmp_path: Path) -> None:
    lrc, srt = tmp_path / "song.lrc", tmp_path / "FILM.SRT"
    lrc.write_text(LRC, "utf-8-sig")
    srt.write_text(SRT.replace("\n", "\r\n"), newline="")
    assert read_lyrics(lrc) == [
        (2.0, "A red apple"),
        (4.5, "the train at 12:30 | gone"),
        (12.0, "the train at 12:30 | gone"),
    ]
    assert read_lyrics(srt) == [(1.0, "A forest at night"), (60.25, "Ashes")]
    schedule = parse_prompt_schedule("a sea", str(lrc), frames=100, fps=10)
    assert schedule(19) == "a sea" and schedule(20) == "A red apple"
    assert weights(schedule(45)) == {"the train at 12:30 | gone": 1}  # signs of the grammar are text here
    assert parse_prompt_schedule("a sketch of {}", str(srt), frames=100, fps=1)(60) == "a sketch of Ashes"
