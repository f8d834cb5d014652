"""Pictures from folders, zips and tars; batches by their step alone; broken files skipped and named."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.training.image_dataset import (
    ImageBatches,
    ImageDataset,
    centre_crops,
    crop_square,
    find_pictures,
    split_held_out,
)

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]


def encoded(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "pictures" / "more"
    inner.mkdir(parents=True)
    for i, colour in enumerate(COLOURS):
        (inner.parent if i < 3 else inner).joinpath(f"{i}.png").write_bytes(encoded(colour))
    return tmp_path / "pictures"


def colours(found: ImageDataset) -> set[tuple[int, ...]]:
    return {picture.getpixel((0, 0)) for i in range(len(found)) if (picture := found.get(i))}  # type: ignore[misc]


def test_pictures_in_a_folder_are_found_at_any_depth(folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(encoded((1, 2, 3)))
    assert colours(ImageDataset(find_pictures(folder), 32)) == set(COLOURS)


def test_a_zip_is_read_without_unpacking_it(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, colour in enumerate(COLOURS):
            archive.writestr(f"../../{i}.png", encoded(colour))  # climbs out of nothing: it is never written
        archive.writestr("__MACOSX/0.png", b"")
    before = sorted(tmp_path.rglob("*"))
    assert colours(ImageDataset(find_pictures(path), 32)) == set(COLOURS)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_webdataset_shards_are_read(ending: str, tmp_path: Path) -> None:
    for shard in range(2):
        mode = "w" if ending == "tar" else "w:gz"
        with tarfile.open(tmp_path / f"shard-{shard}.{ending}", mode) as archive:  # type: ignore[call-overload]
            for i in range(3 * shard, 3 * shard + 3):
                for name, content in ((f"{i}.json", b"{}"), (f"{i}.png", encoded(COLOURS[i]))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    assert colours(ImageDataset(find_pictures(tmp_path), 32)) == set(COLOURS)
    assert len(find_pictures(tmp_path / f"shard-1.{ending}")) == 3


def test_a_source_without_pictures_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find_pictures(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no pictures; .*jpeg"):
        find_pictures(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="neither a folder, a zip nor a tar"):
        find_pictures(tmp_path / "a.txt")


def test_broken_pictures_are_skipped_named_and_counted(folder: Path) -> None:
    (folder / "0.png").write_bytes(encoded(COLOURS[0])[:60])
    (folder / "9.jpg").write_bytes(b"<html>not found</html>")
    pictures = ImageDataset(find_pictures(folder), 32)
    batches = ImageBatches(pictures, range(len(pictures)), 4, 16)
    for step in range(4):
        assert batches(step).shape == (4, 3, 16, 16)
    assert set(pictures.broken) == {"0.png", "9.jpg"}


def test_only_broken_pictures_raise_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    pictures = ImageDataset(find_pictures(tmp_path), 32)
    with pytest.raises(UserError, match="none of the 1 pictures can be read; the first: "):
        ImageBatches(pictures, [0], 1, 16).build(0)


def test_transparency_is_filled_with_the_ground_and_exif_rotation_is_applied(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "a.png")
    pictures = ImageDataset(find_pictures(tmp_path), 32, ground=(10, 200, 30))
    assert colours(pictures) == {(10, 200, 30)}
    turned, exif = Image.new("RGB", (40, 20)), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(tmp_path / "b.jpg", exif=exif)
    picture = ImageDataset(find_pictures(tmp_path), 32).get(1)
    assert picture is not None and picture.size == (20, 40)


@pytest.mark.parametrize(
    ("mode", "ending"), [("P", "png"), ("CMYK", "jpg"), ("I;16", "png"), ("L", "gif"), ("1", "bmp")]
)
def test_every_pixel_format_becomes_rgb(mode: str, ending: str, tmp_path: Path) -> None:
    Image.new("L", (20, 20), 128).convert(mode if mode != "I;16" else "L").save(tmp_path / f"a.{ending}")
    if mode == "I;16":
        Image.fromarray(np.full((20, 20), 32768, np.uint16)).save(tmp_path / "a.png")
    picture = ImageDataset(find_pictures(tmp_path), 32).get(0)
    assert picture is not None and picture.mode == "RGB"
    if mode != "1":
        assert abs(int(np.asarray(picture).mean()) - 128) <= 2


def test_batches_depend_on_the_step_alone_and_use_every_picture_once_per_epoch(folder: Path) -> None:
    pictures = ImageDataset(find_pictures(folder), 32)
    first, second = (ImageBatches(pictures, range(6), 3, 16, seed=5) for _ in range(2))
    in_order = [first(step) for step in range(4)]
    assert torch.equal(second(3), in_order[3])
    seen = {tuple(image[:, 8, 8].tolist()) for batch in in_order[:2] for image in batch}
    assert len(seen) == 6
    assert not torch.equal(ImageBatches(pictures, range(6), 3, 16, seed=6).build(0), in_order[0])


def test_two_processes_get_the_two_halves_of_a_batch(folder: Path) -> None:
    pictures = ImageDataset(find_pictures(folder), 32)
    whole = ImageBatches(pictures, range(6), 4, 16).build(2)
    halves = [ImageBatches(pictures, range(6), 4, 16, rank=rank, size=2).build(2) for rank in range(2)]
    assert torch.equal(halves[0], whole[0::2]) and torch.equal(halves[1], whole[1::2])


def test_fewer_pictures_than_a_batch_raise_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match="6 pictures to train on are fewer than a batch of 8"):
        ImageBatches(ImageDataset(find_pictures(folder), 32), range(6), 8, 16)


def test_the_split_is_disjoint_complete_and_stable() -> None:
    train, held = split_held_out(50, seed=1)
    assert (len(train), len(held)) == (45, 5)
    assert sorted(train + held) == list(range(50))
    assert split_held_out(50, seed=1) == (train, held) != split_held_out(50, seed=2)
    assert split_held_out(1, seed=0) == ([0], [])
    assert len(split_held_out(5000, seed=0)[1]) == 64


def test_a_crop_is_at_the_given_place() -> None:
    picture = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8)[None, :, None], (20, 1, 3)))
    assert np.asarray(crop_square(picture, 10, 0.5, 0.0, 0.0))[0, :, 0].tolist() == list(range(10))
    assert np.asarray(crop_square(picture, 10, 0.5, 1.0, 0.5))[0, :, 0].tolist() == list(range(30, 40))


def test_centre_crops_leave_out_broken_pictures(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"")
    pictures = ImageDataset(find_pictures(folder), 32)
    assert centre_crops(pictures, [0, 1, 2], 16).shape == (2, 3, 16, 16)
