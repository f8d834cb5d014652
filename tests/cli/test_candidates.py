"""The commands `vqtools candidates` and `vqtools grid`."""

from pathlib import Path

import pytest

from tests.cli.conftest import run_command
from vqtools.media.png_record import read_record


def test_the_commands_make_grids_and_continue_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--size", "64x64", "-i", "2", "-cuts", "2", "--grids", "1"]

    assert run_command("candidates", "a cat", "--count", "2", "-sd", "3", "--each", "--with", "oil", *quick) == 0
    assert read_record("a-cat-an-oil-painting-on-canvas-3-drafts.png")["activity"] == "drafts"
    grid, first = "a-cat-an-oil-painting-on-canvas-3-drafts.png", "a-cat-an-oil-painting-on-canvas-3-drafts-01.png"
    assert run_command("candidates", "--from", grid, "--pick", "2", "-i", "2", "--out", "p.png") == 0
    record = read_record("p.png")
    assert record["began"]["iterations"] == 2 and record["settings"]["iterations"] == 4
    assert run_command("candidates", "--from", grid, "--cross", "1,2", "-i", "1", "--out", "c.png") == 0
    assert read_record("c.png")["settings"]["init_image"] == "cross-1-2.png"
    assert read_record(first)["settings"]["seed"] == 3
    assert run_command("grid", "a cat", "a dog", "--vary", "seed=1-2", *quick, "--out", "g.png") == 0
    assert len(read_record("g.png")["cells"]) == 4
    capsys.readouterr()
    for arguments, message in (
        (("candidates", "--from", grid, "--pick", "3"), "no candidate 3"),
        (("candidates", "--from", grid), "needs --pick"),
        (("candidates", "--from", first, "--pick", "1"), "is not a grid"),
        (("candidates", "--from", grid, "--cross", "1"), "two candidates"),
        (("grid", "a", "--vary", "seed"), "a setting and its values"),
        (("grid", "a", "--vary", "seed=5-1"), "not an ascending range"),
        (("grid",), "no prompt"),
    ):
        assert run_command(*arguments) == 2
        assert message in capsys.readouterr().err
