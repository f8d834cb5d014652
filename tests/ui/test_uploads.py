"""Uploaded files."""

from __future__ import annotations

from pathlib import Path

from vqtools.ui.uploads import _uploaded_files, save_upload


def test_uploads_of_ipywidgets_7_and_8_are_read() -> None:
    new = ({"name": "a.png", "content": memoryview(b"1"), "size": 1},)
    old = {"a.png": {"metadata": {}, "content": b"1"}}
    assert _uploaded_files(new) == _uploaded_files(old) == [("a.png", b"1")]


def test_a_saved_upload_never_replaces_another_file(tmp_path: Path) -> None:
    one = save_upload(tmp_path, "a.png", b"1")
    assert save_upload(tmp_path, "a.png", b"1") == one
    assert save_upload(tmp_path, "a.png", b"2").name == "a-2.png" and one.read_bytes() == b"1"
    assert save_upload(tmp_path, "..\\..\\etc/.passwd", b"3").parent == tmp_path
