"""The plan of an octave zoom: levels of frames, and prompts of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vqtools.core.errors import UserError

Make = Callable[..., Any]


def test_levels_follow_the_zoom(octaves: Make, tmp_path: Path) -> None:
    inwards = octaves(tmp_path / "in", frames=5, zoom="2")
    assert inwards.levels == [4, 3, 2, 1, 0] and inwards.count == 5
    outwards = octaves(tmp_path / "out", frames=4, zoom="2**-0.5")
    assert outwards.levels == pytest.approx([0, 0.5, 1, 1.5]) and outwards.count == 3
    there_and_back = octaves(tmp_path / "back", frames=5, zoom="where(t<3, 2, 0.5)")
    assert there_and_back.levels == [2, 1, 0, 1, 2]
    assert octaves(tmp_path / "still", zoom="1").count == 1


def test_scenes_are_assigned_in_the_order_in_which_they_appear(octaves: Make, tmp_path: Path) -> None:
    inwards = octaves(tmp_path / "in", frames=4, zoom="2", prompt="a ^ b ^ c")
    assert [inwards.prompt(k) for k in range(4)] == ["a", "c", "b", "a"]
    outwards = octaves(tmp_path / "out", frames=4, zoom="0.5", prompt="a ^ b ^ c")
    assert [outwards.prompt(k) for k in range(4)] == ["a", "b", "c", "a"]
    timed = octaves(tmp_path / "at", frames=4, zoom="2", prompts_at="0: x, 2: y", crossfade=0)
    assert [timed.prompt(k) for k in range(4)] == ["y", "y", "x", "x"]


def test_invalid_octave_zooms_raise_user_error(octaves: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="doublings; at most 60"):
        octaves(tmp_path, zoom="9", frames=99)
    with pytest.raises(UserError, match="both sides must be even"):
        octaves(tmp_path, size=(31, 16))
    with pytest.raises(UserError, match="ends where it began"):
        octaves(tmp_path, loop=True, zoom="1")
