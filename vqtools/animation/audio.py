"""Features of an audio file, one value per frame, as variables for formulas.

Knows samples and frames; nothing about images. The analysis is librosa's (optional extra ``audio``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from vqtools.core.errors import UserError

FREQUENCY_BANDS = {"low": (20.0, 250.0), "mid": (250.0, 2000.0), "high": (2000.0, 10_000.0)}  # Hz
AUDIO_VARIABLES = {
    "onset": "onset strength, 0 to 1",
    "low": "loudness below 250 Hz, 0 to 1",
    "mid": "loudness from 250 to 2,000 Hz, 0 to 1",
    "high": "loudness above 2,000 Hz, 0 to 1",
    "volume": "total loudness, 0 to 1",
    "beat": "0 on a beat, rising to 1 just before the next",
    "tempo": "beats per minute",
}
_SAMPLE_RATE = 22_050  # Hz
_WINDOW_LENGTH = 2048  # samples of the short-time Fourier transform
_HOP_LENGTH = 512  # samples: 23 ms
_MAX_SECONDS = 3600.0  # longer files are cut off


class AudioFeatures:
    """One number per frame for each of AUDIO_VARIABLES; silence after the end of the file.

    start_frame: the frame of the file that is frame 0 here.
    """

    def __init__(self, curves: Mapping[str, Any], fps: float, start_frame: int = 0) -> None:
        self.curves = {name: [float(value) for value in values] for name, values in curves.items()}
        self.fps, self.start_frame = fps, start_frame

    def __len__(self) -> int:
        """The file's length in frames."""
        return len(self.curves["volume"])

    def __call__(self, frame: int) -> dict[str, float]:
        """The variables at a frame, for a formula."""
        frame += self.start_frame
        inside = 0 <= frame < len(self)
        silence = {"tempo": self.curves["tempo"][-1] if len(self) else 0.0}
        return {name: values[frame] if inside else silence.get(name, 0.0) for name, values in self.curves.items()}


def analyse_audio(path: str | Path, fps: float) -> AudioFeatures:
    """Analyse an audio file (wav, mp3, flac, ogg …), with one value per frame at ``fps``.

    Loudness and onset strength are the maximum within a frame, so that none is missed, divided by the file's 99th
    percentile. UserError if the file cannot be read, or librosa is not installed.
    """
    import numpy as np

    librosa = _import_librosa()
    samples = _load_samples(librosa, Path(path))
    spectrum = np.abs(librosa.stft(samples, n_fft=_WINDOW_LENGTH, hop_length=_HOP_LENGTH))  # (frequencies, hops)
    frequencies = librosa.fft_frequencies(sr=_SAMPLE_RATE, n_fft=_WINDOW_LENGTH)
    features = {
        name: np.sqrt((spectrum[(frequencies >= low) & (frequencies < high)] ** 2).sum(0))
        for name, (low, high) in FREQUENCY_BANDS.items()
    }
    features["volume"] = np.sqrt((spectrum**2).sum(0))
    onsets = librosa.onset.onset_strength(y=samples, sr=_SAMPLE_RATE, hop_length=_HOP_LENGTH)
    features["onset"] = onsets
    count = max(1, round(len(samples) / _SAMPLE_RATE * fps))
    curves = {name: _max_per_frame(_normalise(values), fps, count) for name, values in features.items()}
    tempo, beats = librosa.beat.beat_track(onset_envelope=onsets, sr=_SAMPLE_RATE, hop_length=_HOP_LENGTH)
    curves["beat"] = _beat_phase(librosa.frames_to_time(beats, sr=_SAMPLE_RATE, hop_length=_HOP_LENGTH), fps, count)
    curves["tempo"] = np.full(count, float(np.atleast_1d(tempo)[0]))
    return AudioFeatures(curves, fps)


def offset_audio(audio: AudioFeatures, frames: int) -> AudioFeatures:
    """The same features starting that many frames later: for a scene that does not begin with the audio."""
    return AudioFeatures(audio.curves, audio.fps, audio.start_frame + frames)


def plot_audio(
    path: str | Path, audio: AudioFeatures, names: tuple[str, ...] = ("onset", "low", "mid", "high", "beat")
) -> Any:
    """Draw the waveform with feature curves below it, as a PIL image 960 pixels wide."""
    import numpy as np
    from PIL import Image, ImageDraw

    samples = _load_samples(_import_librosa(), Path(path))
    width, row = 960, 60
    image = Image.new("RGB", (width, row * (1 + len(names))), "white")
    draw = ImageDraw.Draw(image)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    for x, (begin, end) in enumerate(pairwise(edges)):
        piece = samples[begin : max(end, begin + 1)]
        draw.line([(x, row / 2 * (1 - piece.max())), (x, row / 2 * (1 - piece.min()))], fill=(90, 90, 90))
    for index, name in enumerate(names, 1):
        values = audio.curves[name]
        positions = np.linspace(0, len(values) - 1, width)
        heights = np.interp(positions, np.arange(len(values)), values)
        draw.line([(x, row * (index + 1) - 6 - h * (row - 18)) for x, h in enumerate(heights)], fill=(200, 80, 40))
        draw.text((4, row * index + 2), name, fill=(60, 60, 60))
    return image


def _import_librosa() -> Any:
    try:
        import librosa
    except ImportError:
        raise UserError("audio analysis needs librosa; install it with: pip install 'vqtools[audio]'") from None
    return librosa


def _load_samples(librosa: Any, path: Path) -> Any:
    """The samples (n,) in [-1, 1] of a file, as mono."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"audio {str(path)!r} is not there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa warns when it falls back to its second backend
            samples, _ = librosa.load(path, sr=_SAMPLE_RATE, mono=True, duration=_MAX_SECONDS)
    except Exception as error:  # every backend raises its own kinds
        reason = " ".join((str(error) or type(error).__name__).split())[:80]
        raise UserError(f"audio {str(path)!r} cannot be read ({reason}); use wav, mp3, flac or ogg") from None
    if len(samples) < _WINDOW_LENGTH or not np.isfinite(samples).all():
        raise UserError(f"audio {str(path)!r} holds no sound, or less than a tenth of a second")
    return samples


def _normalise(values: Any) -> Any:
    """Scale to [0, 1] by the 99th percentile, so that a single bang does not hide the rest; silence stays 0."""
    import numpy as np

    top = float(np.percentile(values, 99))
    return np.clip(values / top, 0, 1) if top > 1e-6 else np.zeros_like(values)


def _max_per_frame(values: Any, fps: float, count: int) -> Any:
    """The maximum of values per hop within each frame (count,)."""
    import numpy as np

    edges = np.arange(count + 1) / fps * _SAMPLE_RATE / _HOP_LENGTH
    first = np.minimum(edges[:-1].astype(int), len(values) - 1)
    last = np.minimum(np.maximum(np.ceil(edges[1:]).astype(int), first + 1), len(values))
    return np.array([values[begin:end].max() for begin, end in zip(first, last, strict=True)])


def _beat_phase(beats: Any, fps: float, count: int) -> Any:
    """Progress (count,) in [0, 1) from the beat before each frame to the next; beats continue evenly at both ends.

    beats: their times in seconds.
    """
    import numpy as np

    times = np.arange(count) / fps
    if len(beats) < 2:
        return np.zeros(count)
    first_interval, last_interval = beats[1] - beats[0], beats[-1] - beats[-2]
    before = np.arange(beats[0] - first_interval, -first_interval, -first_interval)[::-1]
    after = np.arange(beats[-1] + last_interval, times[-1] + 2 * last_interval, last_interval)
    marks = np.concatenate([before, beats, after])
    index = np.clip(np.searchsorted(marks, times + 1e-9, side="right") - 1, 0, len(marks) - 2)
    return np.clip((times - marks[index]) / (marks[index + 1] - marks[index]), 0, 1 - 1e-9)
