"""The whole way with the models that ship: prompt, grids, the CLIP's choice, guidance, record."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import vqtools
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, resize_and_pad, to_tensor
from vqtools.media.png_record import read_record, save_png
from vqtools.painting import memory_plan
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_paint_job, create_session
from vqtools.pipelines.paint_job import PaintJob
from vqtools.weights.load import load_clip, load_vqgan
from vqtools.weights.model_file import save_model

QUICK = {"size": (64, 64), "iterations": 3, "cutouts": 2, "grids": 2}
PICTURES = Path(__file__).parents[1] / "pictures"


def pixels(picture: Image.Image) -> bytes:
    return picture.tobytes()


def run(job: PaintJob) -> PaintJob:
    while job.position < job.total:
        job.step()
    return job


def test_the_picture_depends_on_the_seed_alone() -> None:
    first = vqtools.paint("a red apple", seed=1, **QUICK)
    torch.rand(5)  # what others draw changes nothing
    assert first.size == (64, 64)
    assert pixels(vqtools.paint("a red apple", seed=1, **QUICK)) == pixels(first)
    assert pixels(vqtools.paint("a red apple", seed=2, **QUICK)) != pixels(first)


def test_a_missing_seed_is_drawn_and_recorded() -> None:
    a, b = (create_paint_job(PaintSettings(prompt="a tree", **QUICK)) for _ in range(2))
    assert a.settings.seed is not None and a.settings.seed != b.settings.seed
    assert a.record()["settings"]["seed"] == a.settings.seed


def test_the_record_reproduces_the_picture(tmp_path: Path) -> None:
    job = run(create_paint_job(PaintSettings(prompt="a star | blur:-0.3", seed=5, group=1, **QUICK)))
    file = save_png(tmp_path / "star.png", job.picture(), job.record())
    record = read_record(file)
    assert record["models"]["vqgan"]["sha256"] and record["precision"] == job.machine.precision
    settings = PaintSettings.parse(record["settings"])
    again = run(create_paint_job(settings, threads=record["threads"]))
    assert pixels(again.picture()) == pixels(Image.open(file))
    json.dumps(record)


@pytest.mark.parametrize("steps", [2, 13])
def test_a_resumed_painting_makes_the_same_picture(steps: int) -> None:
    settings = PaintSettings(prompt="a red apple", seed=3, **QUICK)
    whole, first, again = (create_paint_job(settings) for _ in range(3))
    for _ in range(steps):
        first.step()
    again.load_state_dict(first.state_dict())
    assert again.position == steps
    assert pixels(run(again).picture()) == pixels(run(whole).picture())


def test_the_preview_shows_the_candidates_and_then_the_picture() -> None:
    job = create_paint_job(PaintSettings(prompt="a red apple", seed=3, **QUICK))
    job.step()
    assert job.preview().size == (2 * 96, 8)
    assert run(job).preview().size == (64, 64)


def test_paintings_start_from_random_codes_and_from_a_picture() -> None:
    random_start = create_paint_job(PaintSettings(prompt="a red apple", seed=3, transformer="none", **QUICK))
    assert random_start.total == 3
    (picture,) = sorted(PICTURES.glob("*.webp"))[:1]
    from_picture = create_paint_job(
        PaintSettings(prompt="a red apple", seed=3, init_image=str(picture), init_weight=1.0, **QUICK)
    )
    assert str(picture) in from_picture.record()["inputs"]
    assert "init" in from_picture.step()


def test_a_picture_that_is_not_square_has_the_whole_candidate() -> None:
    wide = resize_and_pad(Image.new("RGB", (96, 96), "red"), (256, 128))
    assert wide.size == (256, 128)
    assert wide.getcolors() == [(256 * 128, (255, 0, 0))]


def test_errors_name_the_value_and_the_expectation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"width 100 is not a multiple of 8; the nearest is (96|104)"):
        create_paint_job(PaintSettings(size=(100, 64)))
    with pytest.raises(UserError, match="there is no vqgan named 'startr'; did you mean 'starter'"):
        create_paint_job(PaintSettings(vqgan="startr"))
    with pytest.raises(UserError, match="is not there"):
        load_vqgan(str(tmp_path / "none.safetensors"))
    with pytest.raises(UserError, match="expected starter or open_clip"):
        load_clip("no/such")


def test_a_transformer_of_other_networks_is_an_error_only_if_it_is_set(tmp_path: Path, monkeypatch) -> None:
    vqgan = load_vqgan("starter")
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    tensors = {k: v + 0.01 for k, v in vqgan.state_dict().items()}
    save_model(tmp_path / "mine.safetensors", "vqgan", vqgan.config.to_dict(), tensors)
    assert create_paint_job(PaintSettings(vqgan="mine", **QUICK)).settings.transformer == "none"
    with pytest.raises(UserError, match="trained with another vqgan"):
        create_paint_job(PaintSettings(vqgan="mine", transformer="starter", **QUICK))


def test_the_starter_models_rank_and_reconstruct_unseen_pictures() -> None:
    credits = json.loads((PICTURES / "credits.json").read_text())
    files = sorted(PICTURES.glob("*.webp"))
    assert sorted(credits) == [f.name for f in files]
    images = torch.cat([to_tensor(resize_and_crop(load_picture(f), (112, 112))) for f in files])
    vqgan, clip = load_vqgan(), load_clip()
    with torch.no_grad():
        again = vqgan.decode(vqgan.encode(images)).clamp(-1, 1)
        error = (again - images).div(2).square().mean((1, 2, 3))
        seen = clip.embed_image(images.add(1).div(2))
    names = [credits[f.name]["name"] for f in files]
    right = (seen @ clip.embed_text(names).T).argmax(1) == torch.arange(len(names))
    assert float((-10 * error.log10()).mean()) > 20
    assert float(right.float().mean()) > 0.4  # chance is 0.03


STEERED = {"size": (64, 64), "iterations": 6, "cutouts": 2, "transformer": "none"}


def test_an_edited_picture_is_reproduced_from_its_png(tmp_path: Path) -> None:
    """The whole way: prompts as a picture and words, a stroke, a way given up; then the PNG alone."""
    reference = tmp_path / "reference.png"
    Image.new("RGB", (20, 20), "orange").save(reference)
    job = create_session(PaintSettings(prompt="a red apple", seed=4, **STEERED))
    job.step()
    job.edit({"prompt": f"a star | picture:{reference}:0.5"})
    job.step()
    job.set_region(0, (0, 0, 32, 64))
    job.step()
    job.protect((0, 32, 64, 64))
    job.undo()
    run(job)
    file = save_png(tmp_path / "steered.png", job.picture(), job.record())
    reference.unlink()  # small enough to have come along
    record = read_record(file)
    again = create_session(PaintSettings.parse(record["began"]), record=record, replay=True)
    assert pixels(run(again).picture()) == pixels(Image.open(file))
    larger = create_session(PaintSettings.parse({**record["began"], "size": (96, 96)}), record=record, replay=True)
    assert run(larger).picture().size == (96, 96)


def test_edits_work_while_the_transformer_draws() -> None:
    settings = PaintSettings(prompt="a red apple | a tree", seed=3, **QUICK)
    job = create_session(settings)
    job.step()
    job.set_region(1, (0, 0, 32, 64))
    with pytest.raises(UserError, match="the transformer is still drawing"):
        job.repaint((0, 0, 32, 64))
    job.edit({"prompt": "a star | a tree", "iterations": 2})
    run(job)
    assert set(job.job.painter.masks) == {"prompt 1"}
    again = create_session(settings, record=job.record(), replay=True)
    assert pixels(run(again).picture()) == pixels(job.picture())
    while job.position >= 12:  # back through guidance into the grids, and forward again
        job.undo() if job.position > 12 else job.branch(5)
    assert job.job.painter is None
    assert run(job).position == job.total


def test_regions_and_protection_can_be_settings(tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (32, 32), 255).save(mask)
    fields = {"regions": f"1=0,0,0.5,1 | 2={mask}", "protect": "0,0.5,1,1"}
    job = create_paint_job(PaintSettings(prompt="a | b", seed=1, **STEERED, **fields))
    job.step()
    assert set(job.painter.masks) == {"prompt 0", "prompt 1", "protect"}
    with pytest.raises(UserError, match="there is no prompt 2"):
        create_paint_job(PaintSettings(prompt="a", **STEERED, **fields))


@pytest.mark.parametrize("fields", [{"init": "noise"}, {"init": "gradient"}, {"init": "codes"}, {"drawer": "pixels"}])
def test_generated_starts_depend_on_the_seed(fields: dict[str, str]) -> None:
    first, again, other = (
        create_paint_job(PaintSettings(prompt="a tree", seed=seed, **QUICK, **fields)) for seed in (1, 1, 2)
    )
    assert first.total == 3
    assert pixels(run(first).picture()) == pixels(run(again).picture()) != pixels(run(other).picture())


def test_two_clips_guide_and_invalid_combinations_are_errors() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        create_paint_job(PaintSettings(init="noise", init_image="a.png", **QUICK))
    for clip in ("", "starter:-1", "starter | starter:2"):
        with pytest.raises(UserError, match="clip '"):
            PaintSettings.parse({"clip": clip})


def test_a_run_that_does_not_fit_is_grouped_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "available_memory", lambda machine: 10**8)
    job = create_paint_job(PaintSettings(prompt="a tree", seed=1, **{**STEERED, "cutouts": 16, "size": (128, 128)}))
    assert job.settings.group < 16 or job.settings.checkpoint == "on"
    assert job.plan.fits and job.notes == [job.plan.describe()]
    assert "of 0.1 GB free with" in job.notes[0]


def test_a_model_that_was_trained_again_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    vqgan = load_vqgan()
    for shift in (0.0, 0.5):
        tensors = {name: value + shift for name, value in vqgan.state_dict().items()}
        save_model(tmp_path / "mine.safetensors", "vqgan", vqgan.config.to_dict(), tensors)
        assert torch.equal(load_vqgan("mine").last_layer, vqgan.last_layer + shift)
