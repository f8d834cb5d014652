"""The menu of models: its default, and what happens if a download fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqtools.animation.settings import AnimateSettings
from vqtools.core import device
from vqtools.painting.settings import PaintSettings
from vqtools.ui.model_menu import PUBLIC_CLIP, PUBLIC_LABEL, PUBLIC_VQGAN, STARTER_LABEL, Models
from vqtools.weights.registry import find_record


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models whose list has both public networks at addresses where nobody answers."""
    blocks = [
        f"name: {name}\nkind: {kind}\nurl: http://127.0.0.1:9/{kind}.ckpt\nsha256: {'0' * 64}\nbytes: {size}\n"
        for name, kind, size in ((PUBLIC_VQGAN, "vqgan", 980_092_370), (PUBLIC_CLIP, "clip", 605_157_884))
    ]
    (tmp_path / "weights.txt").write_text("\n".join(blocks))
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    monkeypatch.delenv("VQTOOLS_QUICK", raising=False)
    monkeypatch.setattr("vqtools.weights.fetch.RETRY_PAUSE", 0.0)
    return tmp_path


def create_files(home: Path) -> None:
    for record in (find_record("vqgan", PUBLIC_VQGAN), find_record("clip", PUBLIC_CLIP)):
        record.path.parent.mkdir(parents=True, exist_ok=True)
        record.path.touch()


def test_without_a_gpu_the_starter_models_are_the_default_and_change_no_setting() -> None:
    models = Models()
    assert models.choice.value == STARTER_LABEL and models.fields == {}
    models.choice.value = PUBLIC_LABEL
    assert "1.59 GB" in models.note.value and "minutes" in models.note.value  # shown before anything is downloaded


def test_with_a_gpu_public_models_that_are_here_are_the_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_devices", lambda: ["cuda", "cpu"])
    assert Models().choice.value == STARTER_LABEL  # neither here nor reachable
    create_files(home)
    models = Models()
    assert models.choice.value == PUBLIC_LABEL and "downloaded already" in models.note.value
    fields = models.fields
    assert fields["vqgan"] == PUBLIC_VQGAN and fields["clip"] == PUBLIC_CLIP and fields["transformer"] == "none"
    for settings in (PaintSettings(**fields), AnimateSettings(**fields)):
        assert settings.size == (384, 384)
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    assert Models().choice.value == STARTER_LABEL


def test_after_a_failed_download_the_starter_models_are_used() -> None:
    models = Models()
    models.choice.value = PUBLIC_LABEL
    assert models.fields == {}
    assert models.choice.value == STARTER_LABEL and "can&#x27;t be downloaded" in models.note.value


def test_the_public_models_are_in_the_shipped_list_with_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "empty"))
    for kind, name in (("vqgan", PUBLIC_VQGAN), ("clip", PUBLIC_CLIP)):
        record = find_record(kind, name)
        assert record.sha256 and record.bytes and not record.unverified_reason
