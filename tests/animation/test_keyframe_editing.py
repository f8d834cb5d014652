"""Editing keyframes: the key that is edited changes, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtools.animation.keyframe_editing import (
    add_keyframe,
    list_keyframes,
    move_keyframe,
    remove_keyframe,
    sample_curve,
)
from vqtools.animation.keyframes import Curve
from vqtools.core.errors import UserError


def test_keys_are_listed_and_formulas_are_not_draggable() -> None:
    curve = Curve.parse('0:(1.02), 30:(1+0.5*sin(t)), "max_f-1":(-2)')
    wave = pytest.approx(1 + 0.5 * -0.98803162)
    assert list_keyframes(curve, 60) == [(0, 1.02, True), (30, wave, False), (59, -2, True)]


def test_only_the_changed_key_is_rewritten() -> None:
    curve = Curve.parse('0: (1.02),30:(where(t<9, 1, 2)) , "max_f-1":-2')
    assert move_keyframe(curve, 0, 4, 1.1) == '4:(1.1), 30:(where(t<9, 1, 2)), "max_f-1":(-2)'
    assert add_keyframe(curve, 40, 0.5, 60) == '0:(1.02), 30:(where(t<9, 1, 2)), 40:(0.5), "max_f-1":(-2)'
    assert remove_keyframe(curve, 1) == '0:(1.02), "max_f-1":(-2)'
    with pytest.raises(UserError, match="key 2 is a formula"):
        move_keyframe(curve, 1, 3, 1)


def test_a_plain_number_becomes_keys_and_a_number_again() -> None:
    text = add_keyframe(Curve.parse("1.02"), 30, 1.5, 60)
    assert text == "0:(1.02), 30:(1.5)"
    assert remove_keyframe(Curve.parse(text), 1) == "(1.02)"
    assert add_keyframe(Curve.parse("1.02"), 0, 1.5, 60) == "0:(1.5)"
    assert remove_keyframe(Curve.parse("sin(t)"), 0) == "sin(t)"


keys = st.dictionaries(st.integers(0, 90), st.integers(-900, 900).map(lambda n: n / 100), min_size=1, max_size=6)


@given(keys, st.integers(0, 90), st.integers(-900, 900).map(lambda n: n / 100))
def test_adding_a_key_keeps_the_others(values: dict[int, float], frame: int, value: float) -> None:
    curve = Curve.parse(", ".join(f"{f}:({v})" for f, v in values.items()))
    edited = Curve.parse(add_keyframe(curve, frame, value, 90))
    keyframes = {key.frame: key.value for key in list_keyframes(edited, 90)}
    assert keyframes == pytest.approx({**values, frame: value})


def test_samples_span_all_frames_and_omit_undefined_values() -> None:
    drawn = sample_curve(Curve.parse("1/(t-3)"), 9)
    assert [frame for frame, _ in drawn] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    many = sample_curve(Curve.parse("t"), 99_999)
    assert many[0] == (0, 0) and many[-1] == (99_999, 99_999) and 200 < len(many) < 260
