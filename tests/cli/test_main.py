"""The command line as a whole: errors are one line with an exit code, aliases work, and --help is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Canvas, run_command
from vqtools.cli.main import command
from vqtools.painting.settings import PaintSettings


def test_an_internal_error_is_one_line_unless_debugged(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Canvas, "picture", lambda self: 1 / 0)
    assert run_command("paint", "x", "-i", "1") == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown and "--debug" in shown and "Traceback" not in shown
    assert run_command("paint", "x", "-i", "1", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_former_name_of_candidates_is_a_hidden_alias() -> None:
    shown = CliRunner().invoke(command, ["--help"]).output
    assert "candidates" in shown and "drafts" not in shown
    assert run_command("drafts") == run_command("candidates") == 2


def test_an_unquoted_prompt_is_explained_by_each_command_that_takes_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("paint", "sample", "animate"):
        assert run_command(name, "a", "red", "apple") == 2
        assert f'put it in quotes: vqtools {name} "a red apple"' in capsys.readouterr().err


def test_help_shows_every_flag_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom vqtools.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([name for name in ('torch', 'open_clip', 'kornia', 'ipywidgets') if name in sys.modules])"
    )
    for arguments in (["--help"], ["paint", "--help"], ["paint", "x", "-i", "none"], [], ["weights"]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert ran.stdout.endswith("[]\n"), (arguments, ran.stdout, ran.stderr)
        if arguments == ["paint", "--help"]:
            fields = [field for field in PaintSettings.options() if field.name != "prompt"]
            flags = [flag for field in fields for flag in (field.flag, *field.short)]
            assert [flag for flag in flags if flag not in ran.stdout] == []
