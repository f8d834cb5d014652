"""Files in a queue's folder become items; one that cannot be read becomes one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.png_record import save_png
from vqtools.pipelines.queue_files import item_key, read_items


def test_times_makes_items_with_consecutive_seeds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": "a", "seed": 0, "times": 3}, {"prompt": "b"}]))
    items = read_items(path, {"iterations": 2})
    assert [item.fields.get("seed") for item in items] == [0, 1, 2, None]
    assert [item.number for item in items] == [1, 2, 3, 4] and {item.fields["iterations"] for item in items} == {2}
    assert items[1].name == "a.json (2)" and len({item.key for item in items}) == 4


def test_the_record_of_a_png_is_an_item(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", Image.new("RGB", (4, 4)), {"settings": {"prompt": "a", "seed": 3}})
    (item,) = read_items(tmp_path / "a.png")
    assert (item.activity, item.fields["prompt"], item.record["settings"]["seed"]) == ("paint", "a", 3)


def test_keys_are_those_of_0_1() -> None:
    assert item_key("a.json", b"{}", 1, "{}") == "39d2f770e938425b01e8"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "[1]", "settings by name"),
        ("a.json", "[]", "0 pictures"),
        ("a.json", '{"prompt": "x", "times": 1000}', "times 1000"),
        ("a.json", '{"activity": "animate"}', "must be paint or sample"),
        ("a.json", "[" * 100_000, "nested"),
        ("a.yaml", "a: &a [x, x]\nprompt: *a\n", "aliases"),
        ("a.yaml", "prompt: [", "YAML"),
        ("a.yaml", "!!python/object/apply:os.system ['echo']", "YAML"),
        ("a.json", " " * 2**21, "megabyte"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=says) as error:
        read_items(path)
    assert "\n" not in str(error.value)
