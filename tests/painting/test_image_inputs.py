"""Pictures that settings name: which files a record may open, and which pictures it embeds."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.painting.image_inputs import ImageInputs


def test_files_named_by_an_untrusted_record_are_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "mine.png"
    Image.new("RGB", (8, 8)).save(file)
    fields = [
        {"init_image": str(file)}, {"style_image": str(file)}, {"prompt": f"picture:{file}"}, {"regions": f"1={file}"},
        {"protect": str(file)},
    ]  # fmt: skip
    records = [{"settings": settings} for settings in fields]
    records += [
        {"settings": {}, "journal": [{"step": 1, "do": "edit", "settings": settings}]} for settings in fields[1:3]
    ]
    for record in [*records, {"settings": {}, "began": fields[0]}]:
        with pytest.raises(UserError, match=r"wants to read .*--trust-paths"):
            ImageInputs(record).picture(str(file))
        assert ImageInputs(record, trusted=True).picture(str(file)).size == (8, 8)
    # a file that the record does not name is the user's own choice
    assert ImageInputs({"settings": {"prompt": "a red apple"}}).picture(str(file)).size == (8, 8)
    untrusted = {"vqgan": "../model.safetensors", "clip": "starter | /tmp/clip", "transformer": "x.safetensors"}
    for kind, name in untrusted.items():
        with pytest.raises(UserError, match="--trust-paths"):
            ImageInputs({"settings": untrusted}).check_network_trusted(kind, name)
        ImageInputs({"settings": untrusted}, trusted=True).check_network_trusted(kind, name)
        ImageInputs().check_network_trusted(kind, name)
    public = {"settings": {"clip": "starter | ViT-B-32-quickgelu/openai:0.5"}}
    ImageInputs(public).check_network_trusted("clip", public["settings"]["clip"])


def test_small_pictures_are_embedded_in_the_record(tmp_path: Path) -> None:
    file = tmp_path / "mine.png"
    Image.new("RGB", (8, 8), "red").save(file)
    inputs = ImageInputs()
    inputs.picture(str(file))
    record = {"settings": {"init_image": str(file)}, **inputs.record()}
    assert record["inputs"] == {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}
    file.unlink()
    again = ImageInputs(record)
    assert again.picture(str(file)).getpixel((0, 0)) == (255, 0, 0)
    assert again.record() == inputs.record()
    forged = {**record, "embedded": {str(file): base64.b64encode(b"another").decode()}}
    with pytest.raises(UserError, match="broken"):
        ImageInputs(forged)


def test_of_large_pictures_only_the_hash_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.effect_noise((768, 768), 90).save(file)
    inputs = ImageInputs()
    inputs.picture(str(file))
    assert list(inputs.record()["inputs"]) == [str(file)]
    assert inputs.record()["embedded"] == {}
