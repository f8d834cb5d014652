"""Settings of an animation: flags, motion presets, and errors that point at the cause."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vqtools.animation.settings import CURVE_FIELDS, IDENTITY_MOTION, MOTION_PRESETS, AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.core.errors import UserError
from vqtools.core.settings import settings_table


def test_the_documented_flags_exist() -> None:
    flags = {option.flag for option in AnimateSettings.options()}
    agreed = (
        "octave-zoom cadence frames fps zoom angle translation-x translation-y translation-z rotation-3d-x"
        " rotation-3d-y rotation-3d-z prompts-at iterations-per-frame loop audio size seed cutouts vqgan clip preset"
    )
    assert {f"--{name}" for name in agreed.split()} <= flags
    assert len(settings_table(AnimateSettings, "prompt").splitlines()) == 2 + len(AnimateSettings.model_fields)


@pytest.mark.parametrize("motion", MOTION_PRESETS)
def test_a_motion_preset_sets_curves_that_can_be_overridden(motion: str) -> None:
    settings = AnimateSettings.parse({"motion": motion})
    expected = {**IDENTITY_MOTION, **MOTION_PRESETS[motion]}
    assert {name: getattr(settings, name) for name in IDENTITY_MOTION} == expected
    other = AnimateSettings.parse({"motion": motion, "angle": "7"})
    assert other.angle == "7" and other.zoom == expected["zoom"]
    Timeline(settings, 0).check(settings.size)
    assert AnimateSettings.parse(settings.model_dump(mode="json")) == settings


def test_the_default_curves_are_those_of_the_default_preset() -> None:
    assert AnimateSettings() == AnimateSettings.parse({"motion": AnimateSettings().motion})


def test_numbers_are_accepted_as_curves() -> None:
    assert AnimateSettings(zoom=1.05, iterations_per_frame=3).zoom == "1.05"  # type: ignore[arg-type]
    assert set(CURVE_FIELDS) <= set(AnimateSettings.model_fields)


def test_an_invalid_curve_points_at_the_error() -> None:
    with pytest.raises(UserError) as caught:
        AnimateSettings.parse({"zoom": "0:(1.0+sine(t))"})
    assert "no function is called 'sine'; did you mean 'sin'" in str(caught.value)
    assert caught.value.pointer == "  0:(1.0+sine(t))\n         ^"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"zoom": "1+low"}, "no variable is called 'low'"),
        ({"out_fps": 30}, "belong together"),
        ({"out_fps": 6, "between": "blend"}, "must be more than fps"),
        ({"octave_zoom": True, "seamless": True}, "at once"),
        ({"prompt": "a ^ b:nan"}, "finite number"),
        ({"motion": "zom"}, "must be"),
        ({"zoom": True}, "zoom True"),
    ],
)
def test_invalid_combinations_raise_user_error(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        AnimateSettings.parse(fields)
    assert message in str(caught.value)


def test_audio_variables_are_allowed_with_an_audio_file() -> None:
    assert AnimateSettings(audio="song.mp3", zoom="1+0.1*low").zoom == "1+0.1*low"


def test_settings_import_no_heavy_library() -> None:
    program = (
        "import sys, vqtools.animation.settings; print([n for n in ('torch', 'numpy', 'librosa') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_quick_settings_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    quick = AnimateSettings(frames=100, cadence=3).quick()
    assert (quick.frames, quick.iterations_per_frame, quick.cadence, quick.size) == (4, "2", 1, (64, 64))
