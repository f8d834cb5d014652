"""Curves: Deforum's strings, its holding of formulas, errors that point, and nothing that hangs or runs."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtools.animation.keyframes import FUNCTIONS, Curve, CurveError
from vqtools.core.errors import UserError


def at(text: str, *frames: float, last: int = 100, interpolation: str = "linear") -> list[float]:
    curve = Curve.parse(text, interpolation=interpolation)  # type: ignore[arg-type]
    return [curve(frame, last, 7) for frame in frames]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:(1.04)", 1.04),
        ("0: 1.02", 1.02),
        ("1.5", 1.5),
        ("10: 0, 30: 1, 50: -1", 0.5),
        ("10: (0), 30: (1)", 0.5),
        ("0: (1.0025+0.002*sin(1.25*3.14*t/30))", 1.0025 + 0.002 * math.sin(1.25 * 3.14 * 20 / 30)),
        ("0:(10*sin(2*3.14*t/10))", 10 * math.sin(2 * 3.14 * 20 / 10)),
        ("0:(where((t>10)&(t<30), min(t, 5), 0))", 5.0),
        ("0:(-2**2)", -4.0),
        ("0:(2**-1)", 0.5),
        ("0:(2**3**2)", 512.0),
        ("0:(8/4/2 - 1 - 1)", -1.0),
        ("0:(-7 % 3)", 2.0),
        ("0:(t == 20)", 1.0),
        ("0:(1),", 1.0),
        (" 0 : ( 1 ) , 40 : ( 2 ) ", 1.5),
    ],
)
def test_deforum_strings_have_their_usual_values(text: str, expected: float) -> None:
    (value,) = at(text, 20)
    assert math.isclose(value, expected, abs_tol=1e-12)


def test_numbers_interpolate_and_a_formula_holds_until_the_next_key() -> None:
    text = "0:(0), 10:(t), 20:(5), 30:(1)"
    assert at(text, -5, 0, 5, 10, 19, 20, 25, 30, 99) == [0, 0, 5, 10, 19, 5, 3, 1, 1]
    assert at(text, 5, 25, interpolation="step") == [0, 5]
    assert at("5:(2), 1:(1)", 0, 3, 9) == [1, 1.5, 2]  # in any order; outside, the nearest


def test_keys_at_max_f_follow_the_length() -> None:
    text = '0:(0), "max_f-10":(1)'
    assert at(text, 45, 90, last=100) == [0.5, 1]
    assert at(text, 5, 10, last=20) == [0.5, 1]


numbers = st.floats(-1e6, 1e6, allow_nan=False)
points = st.dictionaries(st.integers(0, 200), numbers, min_size=1, max_size=8)


@given(points, st.sampled_from(["linear", "smooth", "step"]), st.floats(0, 200))
def test_curves_pass_through_keys_and_stay_between_neighbours(keys: dict[int, float], how: str, t: float) -> None:
    text = ", ".join(f"{frame}:({value!r})" for frame, value in keys.items())
    frames = sorted(keys)
    assert at(text, *frames, interpolation=how) == [keys[frame] for frame in frames]
    before = max((f for f in frames if f <= t), default=frames[0])
    after = min((f for f in frames if f >= t), default=frames[-1])
    (value,) = at(text, t, interpolation=how)
    low, high = sorted([keys[before], keys[after]])
    slack = 1e-9 * max(1, abs(low), abs(high))
    assert low - slack <= value <= high + slack


def test_smooth_interpolation_has_a_continuous_slope() -> None:
    text = "0:(0), 10:(1), 20:(5), 30:(5)"
    left, middle, right = at(text, 10 - 1e-4, 10, 10 + 1e-4, interpolation="smooth")
    assert math.isclose(middle - left, right - middle, rel_tol=1e-3)
    assert at(text, 10 - 1e-4, 10)[0] != pytest.approx(middle - (right - middle), rel=1e-9)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("0:(1.0+)", 8, "expected a number, a variable or a function, found ')'"),
        ("0:(1", 5, "a closing bracket is expected"),
        ("0:(foo(1))", 4, "did you mean 'floor'"),
        ("0:(1) 30:(2)", 7, "a comma before the next key"),
        ("0:(t^2)", 5, "write a power as **"),
        ("0:(sin(1, 2))", 4, "sin takes 1 value, not 2"),
        ("0:(bass)", 4, "no variable is called 'bass'"),
        ("0:(1), t:(2)", 8, "whole number, or a formula of max_f"),
        ("0:(1), 20:(1/0)", 8, "on frame 30"),
        ("9**9**9", 1, "no value below"),
        ("0:((-1)**0.5)", 1, "no value below"),
        ("", 1, "an empty schedule"),
        ("1e999", 1, "larger than"),
        ("(" * 200, 65, "64 nested brackets"),
        ('0:(1), "max_f-":(2)', 15, "expected"),
        ("__import__('os').system('x')", 11, "no function is called"),
    ],
)
def test_errors_name_the_column(text: str, column: int, message: str) -> None:
    with pytest.raises(CurveError, match=None) as caught:
        at(text, 30)
    if message != "no function is called":  # (quotes are no value: whichever is found first)
        assert caught.value.column == column
        line, caret = caught.value.pointer.splitlines()
        assert caret.strip() == "^" and len(caret) <= len(line) + 1
        assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["9**9**9**9**9", "-" * 9000 + "1", "1" + "+1" * 9000, "2**" * 9000 + "2", "1:" * 9000]
)
def test_malicious_texts_fail_quickly(text: str) -> None:
    started = time.process_time()
    with pytest.raises(UserError):
        at(text, 0)
    assert time.process_time() - started < 1


pieces = st.sampled_from(
    [*FUNCTIONS, *"0123456789+-*/%<>&|~(),:.\"' ", "**", "==", "t", "max_f", "s", "pi", "9e9", "\n", "\0", "é", "_"]
)


@given(st.lists(pieces, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_gives_finite_numbers_or_a_one_line_error(text: str) -> None:
    try:
        values = at(text, 0, 3, 100)
    except UserError as error:
        assert "\n" not in str(error)
        assert 1 <= error.column <= len(text) + 2  # type: ignore[attr-defined]
    else:
        assert all(math.isfinite(value) for value in values)


expressions = st.recursive(
    st.sampled_from(["t", "pi", "s", "max_f"]) | st.floats(0, 100).map(repr),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda x: f"-{x}")
        | inner.map(lambda x: f"sin({x})")
        | st.tuples(inner, inner).map(lambda pair: f"max({pair[0]}, {pair[1]})")
    ),
    max_leaves=12,
)


@given(expressions, st.integers(0, 50))
def test_arithmetic_equals_python(text: str, t: int) -> None:
    names = {"t": t, "pi": math.pi, "s": 7, "max_f": 100, "sin": math.sin, "max": max}
    expected = eval(text, {"__builtins__": {}}, names)  # noqa: S307 (an oracle for text made here)
    if abs(expected) < 1e15:
        (value,) = at(f"0:({text})", t)
        assert math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)


def test_extra_variables_are_passed_by_name() -> None:
    curve = Curve.parse("0:(1 + low*2)", variables=["low"])
    assert curve(3, 10, 0, low=0.25) == 1.5
    assert curve.constant is None and Curve.parse("0:(1+1)").constant == 2
