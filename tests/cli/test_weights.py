"""`vqtools weights` lists, downloads and converts networks; `vqtools info` shows versions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import run_command
from vqtools.weights.load import load_transformer, load_vqgan


def test_weights_lists_networks_and_info_shows_versions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    assert run_command("weights") == 0
    table = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    words = ("vqgan", "980 MB", "no", "MIT", "ImageNet")
    assert all(word in table["vqgan-imagenet-f16-16384"] for word in words)
    assert "yes" in table["starter"] and "unverified" in table["vqgan-wikiart-f16-16384"]
    assert run_command("info") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("torch", "device", "memory", str(tmp_path)))


def test_a_converted_checkpoint_is_found_by_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    golden = Path(__file__).parents[1] / "golden"
    assert run_command("weights", "convert", str(golden / "taming_net2net_class.ckpt"), "--name", "cin") == 0
    shown = capsys.readouterr().out
    assert "transformer cin (from taming Net2NetTransformer)" in shown and "vqgan cin-vqgan" in shown
    assert load_vqgan("cin-vqgan").f == 2 and load_transformer("cin").config.heads == 4
    assert run_command("weights") == 0
    assert "cin-vqgan" in capsys.readouterr().out
    for arguments, says in (
        ([str(golden / "ldm_vq.ckpt"), "--name", "cin"], "exists already; choose another name with --name"),
        ([str(golden / "ldm_vq.ckpt"), "--name", "../cin"], "may hold letters"),
        ([str(golden / "llamagen_gpt.pt")], "LlamaGen GPT"),
        ([str(tmp_path / "none.ckpt")], "is not there"),
    ):
        assert run_command("weights", "convert", *arguments) == 2
        shown = capsys.readouterr().err
        assert says in shown and shown.count("\n") == 1


def test_an_unverified_network_needs_consent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    address = "http://127.0.0.1:9/x.ckpt"
    (tmp_path / "weights.txt").write_text(f"name: odd\nkind: vqgan\nurl: {address}\nunverified: nobody knows it\n")
    assert run_command("weights", "fetch", "odd") == 2  # without a terminal there is no question
    shown = capsys.readouterr().err
    assert "odd is unverified: nobody knows it" in shown and "--yes" in shown
    answers: list[bool] = [False, True]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_arguments, **_keywords: answers.pop(0))
    monkeypatch.setattr("vqtools.weights.fetch.RETRY_PAUSE", 0.0)
    assert run_command("weights", "fetch", "odd") == 2 and "was not downloaded" in capsys.readouterr().err
    assert run_command("weights", "fetch", "odd") == 2 and "could not be downloaded" in capsys.readouterr().err
    assert run_command("weights", "fetch", "starter") == 0 and "is already downloaded" in capsys.readouterr().err
    assert run_command("weights", "fetch", "vqgan-imagenet") == 2
    assert "or 'vqgan-imagenet-f16-16384'?" in capsys.readouterr().err
