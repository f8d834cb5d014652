"""Curves from sound: what a formula may say about the music at a frame.

Knows samples and frames; nothing about pictures. librosa (the optional extra ``audio``) does the listening.
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
    "onset": "how strongly something begins, 0 to 1",
    "low": "loudness below 250 Hz, 0 to 1",
    "mid": "loudness from 250 to 2,000 Hz, 0 to 1",
    "high": "loudness above 2,000 Hz, 0 to 1",
    "volume": "loudness of the whole, 0 to 1",
    "beat": "0 on a beat, rising to 1 just before the next",
    "tempo": "beats a minute",
}
_SAMPLE_RATE = 22_050
_HOP_LENGTH = 512  # samples: 23 ms
_MAX_SECONDS = 3600.0  # seconds that are read


class AudioFeatures:
    """One number a frame for each of VARIABLES, from the beginning of a file to its end and silence after.

    begin: the frame of the file at which frame 0 stands.
    """

    def __init__(self, curves: Mapping[str, Any], fps: float, begin: int = 0) -> None:
        self.curves = {name: [float(value) for value in values] for name, values in curves.items()}
        self.fps, self.begin = fps, begin

    def __len__(self) -> int:
        """Frames that the sound lasts, from the file's beginning."""
        return len(self.curves["volume"])

    def __call__(self, frame: int) -> dict[str, float]:
        """The variables at a frame, for a formula."""
        frame += self.begin
        inside = 0 <= frame < len(self)
        silence = {"tempo": self.curves["tempo"][-1] if len(self) else 0.0}
        return {name: values[frame] if inside else silence.get(name, 0.0) for name, values in self.curves.items()}


def analyse_audio(path: str | Path, fps: float) -> AudioFeatures:
    """The curves of a sound file (wav, mp3, flac, ogg …), one value a frame at ``fps``.

    Loudness and onsets are the most within a frame, so that none is missed, scaled by the file's 99th percentile.
    UserError where the file can't be read, or librosa is not installed.
    """
    import numpy as np

    librosa = _import_librosa()
    samples = _load_samples(librosa, Path(path))
    spectrum = np.abs(librosa.stft(samples, n_fft=2048, hop_length=_HOP_LENGTH))  # (frequencies, hops)
    frequencies = librosa.fft_frequencies(sr=_SAMPLE_RATE, n_fft=2048)
    tracks = {
        name: np.sqrt((spectrum[(frequencies >= low) & (frequencies < high)] ** 2).sum(0))
        for name, (low, high) in FREQUENCY_BANDS.items()
    }
    tracks["volume"] = np.sqrt((spectrum**2).sum(0))
    onsets = librosa.onset.onset_strength(y=samples, sr=_SAMPLE_RATE, hop_length=_HOP_LENGTH)
    tracks["onset"] = onsets
    count = max(1, round(len(samples) / _SAMPLE_RATE * fps))
    curves = {name: _max_per_frame(_normalise(track), fps, count) for name, track in tracks.items()}
    tempo, beats = librosa.beat.beat_track(onset_envelope=onsets, sr=_SAMPLE_RATE, hop_length=_HOP_LENGTH)
    curves["beat"] = _beat_phase(librosa.frames_to_time(beats, sr=_SAMPLE_RATE, hop_length=_HOP_LENGTH), fps, count)
    curves["tempo"] = np.full(count, float(np.atleast_1d(tempo)[0]))
    return AudioFeatures(curves, fps)


def offset_audio(sound: AudioFeatures, frames: int) -> AudioFeatures:
    """The same sound, heard from so many frames later on: for a scene that does not begin with it."""
    return AudioFeatures(sound.curves, sound.fps, sound.begin + frames)


def _import_librosa() -> Any:
    try:
        import librosa
    except ImportError:
        raise UserError("motion that follows sound needs librosa; pip install 'vqtools[audio]'") from None
    return librosa


def _load_samples(librosa: Any, path: Path) -> Any:
    import numpy as np

    if not path.is_file():
        raise UserError(f"audio {str(path)!r} is not there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa's, about its second way to open a file
            samples, _ = librosa.load(path, sr=_SAMPLE_RATE, mono=True, duration=_MAX_SECONDS)
    except Exception as error:  # every backend has its own kinds
        reason = " ".join((str(error) or type(error).__name__).split())[:80]
        raise UserError(f"audio {str(path)!r} cannot be read ({reason}); wav, mp3, flac and ogg can") from None
    if len(samples) < 2048 or not np.isfinite(samples).all():
        raise UserError(f"audio {str(path)!r} holds no sound, or less than a tenth of a second")
    return samples


def _normalise(track: Any) -> Any:
    """Scaled to 0 … 1 by the 99th percentile: one bang must not hush the rest. Silence stays silent."""
    import numpy as np

    top = float(np.percentile(track, 99))
    return np.clip(track / top, 0, 1) if top > 1e-6 else np.zeros_like(track)


def _max_per_frame(track: Any, fps: float, count: int) -> Any:
    import numpy as np

    edges = np.arange(count + 1) / fps * _SAMPLE_RATE / _HOP_LENGTH
    first = np.minimum(edges[:-1].astype(int), len(track) - 1)
    last = np.minimum(np.maximum(np.ceil(edges[1:]).astype(int), first + 1), len(track))
    return np.array([track[a:b].max() for a, b in zip(first, last, strict=True)])


def _beat_phase(beats: Any, fps: float, count: int) -> Any:
    """How far each frame is from the beat before to the next; the first and the last gap are carried on outside."""
    import numpy as np

    times = np.arange(count) / fps
    if len(beats) < 2:
        return np.zeros(count)
    step, begin = beats[1] - beats[0], beats[-1] - beats[-2]
    before = np.arange(beats[0] - step, -step, -step)[::-1]
    after = np.arange(beats[-1] + begin, times[-1] + 2 * begin, begin)
    marks = np.concatenate([before, beats, after])
    index = np.clip(np.searchsorted(marks, times + 1e-9, side="right") - 1, 0, len(marks) - 2)
    return np.clip((times - marks[index]) / (marks[index + 1] - marks[index]), 0, 1 - 1e-9)


def plot_audio(
    path: str | Path, sound: AudioFeatures, names: tuple[str, ...] = ("onset", "low", "mid", "high", "beat")
) -> Any:
    """The waveform with the curves under it, as a PIL image: what a formula will see, frame by frame."""
    import numpy as np
    from PIL import Image, ImageDraw

    samples = _load_samples(_import_librosa(), Path(path))
    width, row = 960, 60
    image = Image.new("RGB", (width, row * (1 + len(names))), "white")
    pen = ImageDraw.Draw(image)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    for x, (a, b) in enumerate(pairwise(edges)):
        piece = samples[a : max(b, a + 1)]
        pen.line([(x, row / 2 * (1 - piece.max())), (x, row / 2 * (1 - piece.min()))], fill=(90, 90, 90))
    for index, name in enumerate(names, 1):
        values = sound.curves[name]
        places = np.linspace(0, len(values) - 1, width)
        heights = np.interp(places, np.arange(len(values)), values)
        pen.line([(x, row * (index + 1) - 6 - h * (row - 18)) for x, h in enumerate(heights)], fill=(200, 80, 40))
        pen.text((4, row * index + 2), name, fill=(60, 60, 60))
    return image
