"""Words for prompts: the shipped blocks, a person's own file, prompt files."""

from pathlib import Path

import pytest

from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.painting import prompts
from vqtools.painting.prompt_blocks import add_blocks, create_user_file, load_blocks, read_prompt_file
from vqtools.painting.prompts import parse_prompts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_shipped_block_is_a_valid_prompt() -> None:
    shipped = load_blocks()
    assert {"styles", "media", "light", "without"} <= set(shipped)
    for name in (name for group in shipped.values() for name in group):
        assert parse_prompts(add_blocks("a castle", [name]))
    repelled = parse_prompts(add_blocks("a castle:2", ["no-lettering"]))
    assert repelled[0] == prompts.Prompt("a castle", 2) and repelled[1].weight < 0 and "letters" in repelled[1].text


def test_blocks_are_added_to_prompts_with_positive_weight_only() -> None:
    known = {"any": {"oil": "in oil: on canvas", "dark": "| light:-0.5"}}
    text = add_blocks("a | b:2:0.1 | blur:-0.3 | picture:c.png", ["oil", "dark"], known)
    found = parse_prompts(text)
    assert [(one.text, one.weight) for one in found] == [
        ("a, in oil: on canvas", 1), ("b, in oil: on canvas", 2), ("blur", -0.3), ("picture:c.png", 1), ("light", -0.5),
    ]  # fmt: skip
    assert found[1].stop == 0.1


def test_the_users_file_starts_as_a_copy_and_replaces_the_shipped_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = load_blocks()
    with pytest.raises(SystemExit):
        main(["blocks", "--edit"])
    assert capsys.readouterr().out.strip() == str(home / "blocks.txt")
    assert load_blocks() == shipped
    (home / "blocks.txt").write_text("# mine\n[places]\nmoon = on the moon\n", "utf-8")
    assert load_blocks() == {"places": {"moon": "on the moon"}}
    assert create_user_file() == home / "blocks.txt" and add_blocks("a cat", ["moon"]) == "a cat, on the moon"
    with pytest.raises(UserError, match="no block 'mon'; did you mean 'moon'"):
        add_blocks("a cat", ["mon"])


@pytest.mark.parametrize(
    ("line", "says"),
    [("moon", "line 2.*NAME = TEXT"), ("moon =", "line 2"), ("m n = x", "line 2"), ("m = | a:nan", "line 2.*finite")],
)
def test_an_invalid_line_is_named(home: Path, line: str, says: str) -> None:
    home.mkdir()
    (home / "blocks.txt").write_text(f"[a]\n{line}\n", "utf-8")
    with pytest.raises(UserError, match=says):
        load_blocks()


def test_a_prompt_file_has_one_prompt_per_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeff# mine\n\na red apple:2 | blur:-1\n  12:30 clock  \n", "utf-8")
    assert read_prompt_file(path) == ["a red apple:2 | blur:-1", "12:30 clock"]
    path.write_text("fine\na || b\n", "utf-8")
    with pytest.raises(UserError, match=r"prompts\.txt, line 2: an empty prompt"):
        read_prompt_file(path)
    path.write_text("# nothing\n", "utf-8")
    with pytest.raises(UserError, match="has no prompt"):
        read_prompt_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_prompt_file(path)
    with pytest.raises(UserError, match="does not exist"):
        read_prompt_file(tmp_path / "none.txt")
