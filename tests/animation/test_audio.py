"""Audio features: onsets at clicks, loudness in bands, beats, silence."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from vqtools.animation.audio import AUDIO_VARIABLES, analyse_audio, plot_audio
from vqtools.animation.keyframes import Curve
from vqtools.core.errors import UserError

RATE = 22_050


def write(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32_000).astype("<i2").tobytes())
    return path


def tone(frequency: float, seconds: float, start: float, end: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return 0.4 * np.sin(2 * np.pi * frequency * t) * ((t >= start) & (t < end))


def clicks(seconds: float, every: float) -> np.ndarray:
    samples = np.zeros(int(seconds * RATE))
    burst = np.random.default_rng(0).uniform(-0.9, 0.9, 400) * np.linspace(1, 0, 400)
    for begin in np.arange(0.5, seconds - 0.1, every):
        samples[int(begin * RATE) : int(begin * RATE) + 400] += burst
    return samples


def test_each_band_responds_to_its_own_tone(tmp_path: Path) -> None:
    samples = tone(80, 3, 0, 1) + tone(800, 3, 1, 2) + tone(5000, 3, 2, 3)
    audio = analyse_audio(write(tmp_path / "a.wav", samples), fps=10)
    assert len(audio) == 30
    for i, name in enumerate(("low", "mid", "high")):
        curve = np.array(audio.curves[name])
        inside = curve[i * 10 + 2 : i * 10 + 8]
        outside = np.delete(curve, range(max(0, i * 10 - 2), min(30, i * 10 + 12)))
        assert inside.min() > 0.8 and outside.max() < 0.1, name
    assert set(audio.curves) == set(AUDIO_VARIABLES)
    assert all(0 <= v <= 1 for n, values in audio.curves.items() if n != "tempo" for v in values)


def test_beats_at_120_per_minute_are_found(tmp_path: Path) -> None:
    audio = analyse_audio(write(tmp_path / "a.wav", clicks(12, 0.5)), fps=20)
    assert audio(0)["tempo"] == pytest.approx(120, abs=3)
    beat, onset = np.array(audio.curves["beat"]), np.array(audio.curves["onset"])
    falls = np.flatnonzero(np.diff(beat) < -0.5) + 1  # the frames on which a beat falls
    assert np.median(np.diff(falls)) == 10
    near = [min(abs(fall - 10 * (k + 1)) for k in range(23)) for fall in falls[2:-2]]
    assert max(near) <= 1
    loud = np.flatnonzero(onset > 0.5)
    assert len(loud) >= 18 and all(min(abs(frame - 10 * (k + 1)) for k in range(24)) <= 1 for frame in loud)


def test_loudness_is_zero_in_silence_and_after_the_end(tmp_path: Path) -> None:
    audio = analyse_audio(write(tmp_path / "a.wav", tone(100, 1, 0, 1)), fps=12)
    assert audio(11)["low"] > 0 and audio(12)["low"] == 0 and audio(500)["volume"] == 0
    silent = analyse_audio(write(tmp_path / "b.wav", np.zeros(RATE)), fps=12)
    assert all(value == 0 for name, value in silent(5).items() if name != "tempo")


def test_a_formula_follows_the_audio(tmp_path: Path) -> None:
    audio = analyse_audio(write(tmp_path / "a.wav", tone(80, 2, 1, 2)), fps=10)
    zoom = Curve.parse("0:(1 + 0.1*low)", variables=audio.curves)
    assert zoom(3, 20, **audio(3)) == pytest.approx(1, abs=0.005)
    assert zoom(15, 20, **audio(15)) == pytest.approx(1.1, abs=0.01)


def test_the_plot_shows_waveform_and_curves(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", clicks(3, 0.5))
    image = plot_audio(path, analyse_audio(path, fps=10))
    assert image.size == (960, 360) and len(image.getcolors(2**20)) > 2


def test_unreadable_audio_raises_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noise.mp3").write_bytes(b"no sound")
    for name, message in (("none.wav", "is not there"), ("noise.mp3", "cannot be read")):
        with pytest.raises(UserError, match=message):
            analyse_audio(tmp_path / name, 12)
    with pytest.raises(UserError, match="holds no sound"):
        analyse_audio(write(tmp_path / "short.wav", np.zeros(100)), 12)
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(UserError, match=r"pip install 'vqtools\[audio\]'"):
        analyse_audio(tmp_path / "none.wav", 12)
