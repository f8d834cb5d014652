"""From settings to a picture, with tiny networks: sizes, given parts, seams, conditions and candidates."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import vqtools
from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.media.image import flip_picture, load_picture, resize_and_crop, to_picture, to_tensor
from vqtools.models.gpt import GPT
from vqtools.pipelines import sample
from vqtools.pipelines.completion import UNDRAWN_COLOUR, half_mask
from vqtools.pipelines.sample import SampleJob, create_sample_job
from vqtools.pipelines.score import score
from vqtools.sampling.rerank import rerank
from vqtools.sampling.settings import SampleSettings
from vqtools.weights.load import load_clip, load_transformer
from vqtools.weights.model_file import read_vqgan, save_model

PICTURES = sorted((Path(__file__).parents[1] / "pictures").glob("*.webp"))
OWN = {"vqgan": "tiny", "seed": 3, "size": (40, 24)}


@pytest.fixture(autouse=True)
def home(sampling_home: Path) -> Path:
    return sampling_home


def job(**fields: object) -> SampleJob:
    return create_sample_job(SampleSettings.parse({"transformer": "plain", **OWN, **fields}))


def run(one: SampleJob) -> SampleJob:
    return finish(one)


def upright(one: SampleJob, grid: Tensor) -> Tensor:
    """A grid (h, w) of the start as the picture shall be."""
    return grid if one.given is None else grid.flip([axis for axis in (0, 1) if one.given.flipped[axis]])


def test_the_seed_determines_the_picture() -> None:
    first = vqtools.sample(transformer="plain", **OWN)
    torch.rand(5)  # what others draw changes nothing
    assert first.size == (40, 24)
    assert vqtools.sample(transformer="plain", **OWN).tobytes() == first.tobytes()
    assert vqtools.sample(transformer="plain", **{**OWN, "seed": 4}).tobytes() != first.tobytes()
    json.dumps(first.info["vqtools"])


def test_memory_changes_nothing_and_half_precision_runs() -> None:
    exact = run(job()).codes
    assert torch.equal(run(job(memory=0)).codes, exact)
    assert run(job(precision="bf16")).picture().size == (40, 24)
    assert job(precision="bf16").record()["precision"] == "bf16"
    assert torch.equal(run(job()).codes, exact)  # the shared network is still in fp32


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"seamless": True},
        {"complete": str(PICTURES[0]), "keep": "right"},
        {"complete": str(PICTURES[0]), "keep": "lower", "transformer": "holes", "seamless": True},
        {"complete": str(PICTURES[0]), "keep": "lower", "transformer": "wide", "prompt": "a meadow", "grids": 3},
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_resumed_job_gives_the_same_picture(fields: dict[str, object], share: float) -> None:
    whole, first = job(**fields), job(**fields)
    for _ in range(int(share * first.total)):
        first.step()
    state = first.state_dict()
    again = job(**fields)
    again.load_state_dict(state)
    assert again.position == first.position
    assert torch.equal(run(again).codes, run(whole).codes)
    again.load_state_dict(state)  # and back again, for those who rewind
    assert again.position == int(share * again.total)
    assert torch.equal(run(again).codes, whole.codes)


def test_the_preview_is_grey_where_nothing_is_sampled_yet() -> None:
    one = job()
    for _ in range(12):
        one.step()
    shown = one.preview()
    assert shown.size == (40, 24)
    assert shown.getpixel((39, 23)) == UNDRAWN_COLOUR and shown.getpixel((0, 23)) == UNDRAWN_COLOUR
    assert run(one).preview().tobytes() == one.picture().tobytes()


@pytest.mark.parametrize("transformer", ["plain", "holes"])
@pytest.mark.parametrize("keep", ["upper", "lower", "left", "right"])
def test_a_kept_half_stays_and_the_other_is_sampled(transformer: str, keep: str) -> None:
    one = job(transformer=transformer, complete=str(PICTURES[0]), keep=keep)
    before = upright(one, one.given.codes[0].clone())
    known = half_mask(keep, 6, 10)
    assert torch.equal(upright(one, one.given.known), known)
    if transformer == "plain":  # what is missing comes last: below or to the right
        assert bool(one.given.known[0, 0])
    else:  # who reads the holes sees all around, and never learned upside down
        assert one.given.flipped == (False, keep == "right")
    after = upright(run(one), one.codes[0])
    assert torch.equal(after[known], before[known])
    assert one.inputs["complete"]
    assert one.picture().size == (40, 24)


def test_a_picture_is_extended_upwards_and_to_the_left_from_its_known_part() -> None:
    one = job(transformer="holes", complete=str(PICTURES[0]), keep="whole", place="bottom", size=(640, 640))
    assert [walk.corner for walk in one.passes] == sorted((walk.corner for walk in one.passes), reverse=True)
    low = job(transformer="holes", complete=str(PICTURES[0]), keep="lower")
    known = half_mask("lower", 6, 10)
    before, seen = low.codes[0][known].clone(), []
    assert [walk.corner for walk in low.passes] == [(1, 0), (0, 0)]
    while low.position < low.total:
        low.step()
        shown = low.preview()
        seen.append([shown.getpixel((39, y)) != UNDRAWN_COLOUR for y in (1, 9)])
        assert torch.equal(low.codes[0][known], before)
    assert seen.index([False, True]) > 0 and seen[-1] == [True, True] and [True, False] not in seen
    assert low.preview().tobytes() == low.picture().tobytes()


@pytest.mark.parametrize("place", ["center", "left", "right", "top", "bottom"])
def test_a_whole_picture_is_extended_beyond_its_borders(place: str, home: Path) -> None:
    small = home / "small.png"
    resize_and_crop(load_picture(PICTURES[0]), (17, 13)).save(small)
    one = job(transformer="holes", complete=str(small), keep="whole", place=place)
    known = upright(one, one.given.known)
    assert int(known.sum()) == 4 * 3
    left = {"left": 0, "right": 6}.get(place, 3)
    top = {"top": 0, "bottom": 3}.get(place, 1)
    assert bool(known[top : top + 3, left : left + 4].all())
    assert run(one).picture().size == (40, 24)


def test_a_masked_hole_is_resampled_from_all_sides(home: Path) -> None:
    picture, mask = home / "picture.png", home / "mask.png"
    resize_and_crop(load_picture(PICTURES[0]), (40, 24)).save(picture)
    hole = Image.new("L", (40, 24))
    hole.paste(255, (17, 9, 22, 11))
    hole.save(mask)
    one = job(transformer="holes", complete=str(picture), mask=str(mask))
    known = upright(one, one.given.known)
    assert (~known).nonzero().tolist() == [[2, 4], [2, 5]]
    # what lies to the right and below is part of the condition
    assert one.total == 2 and int((one.sampler.context.spatial == 12).sum()) == 2
    hole.resize((20, 24)).save(mask)
    with pytest.raises(UserError, match="mask 20x24: must have the picture's size, 40x24"):
        job(transformer="holes", complete=str(picture), mask=str(mask))


def test_a_seamless_picture_resamples_only_a_strip_over_its_seam() -> None:
    open_, closed = run(job(transformer="holes")), run(job(transformer="holes", seamless=True))
    same = (open_.codes == closed.codes)[0].all(0)
    assert bool(same[1:-1].all()) and not bool(same[[0, -1]].all())
    assert closed.total == open_.total + 2 * 6 - 6 * 0
    assert closed.picture().size == (40, 24)


def test_the_decoder_wraps_a_seamless_picture_around() -> None:
    one = run(job(seamless=True))
    plain, codes = one.picture(), one.codes
    one.sampler._grid.copy_(one.sampler._grid.roll(3, 2))
    rolled = one.picture()
    assert torch.equal(one.codes, codes.roll(3, 2))
    a, b = to_tensor(plain).roll(12, 3), to_tensor(rolled)
    # group norm sees another part twice: the same but for a rest
    assert float((a - b).abs().mean()) < 0.15 * float(a.std())


def test_classes_are_chosen_by_name_or_index_and_errors_list_them() -> None:
    cold = {"transformer": "classes", "temperature": 0.2}
    dog, second, any_ = (run(job(label=label, **cold)).codes for label in ("dog", "1", ""))
    assert torch.equal(dog, second)
    assert not torch.equal(dog, any_)
    for transformer, label, words in (
        ("classes", "cow", "no class 'cow'; there are cat, dog, moon"),
        ("labels", "10", "no class '10'; there are 0 to 9"),
        ("labels", "", "needs a class; there are 0 to 9"),
        ("plain", "dog", "has no classes"),
    ):
        with pytest.raises(UserError, match=words):
            job(transformer=transformer, label=label)


def test_errors_of_invalid_settings_say_what_to_do() -> None:
    wishes = [
        ({"transformer": "many"}, "predicts 99 codes, but the VQGAN 'tiny' has 12"),
        ({"transformer": "depth"}, "another picture's codes; name that picture with condition"),
        ({"transformer": "depth", "condition": "nowhere.png"}, "is not there"),
        ({"condition": str(PICTURES[0])}, "reads no other picture"),
        ({"transformer": "holes", "condition": str(PICTURES[0])}, "reads no other picture"),
        ({"transformer": "starter"}, "trained with another vqgan"),
        ({"transformer": "plan"}, "did you mean 'plain'"),
        ({"prompt": "a tree"}, "reads no captions"),
        ({"grids": 2}, "candidates 2: the CLIP needs a prompt"),
        ({"size": (41, 24)}, "width 41 is not a multiple of 4; the nearest is 40"),
        ({"stride": 3}, r"stride \(3, 3\) of a window of 4 must be 1 to 2"),
        ({"top_k": -1}, "top_k -1: must be at least 0"),
        ({"temperature": -1}, "temperature -1"),
        ({"complete": str(PICTURES[0]), "keep": "whole"}, "does not fit whole into 40x24"),
        ({"complete": "nowhere.png"}, "is not there"),
    ]
    for wish, words in wishes:
        with pytest.raises(UserError, match=words):
            job(**wish)


@pytest.fixture
def pairs(home: Path) -> dict[Path, Tensor]:
    """A transformer that knows two pairs by heart: of each picture, the codes (4, 4) of its partner."""
    vqgan = read_vqgan(home / "home" / "tiny.safetensors")
    shown = PICTURES[0], PICTURES[1]
    images = [to_tensor(resize_and_crop(load_picture(one), (16, 16))) for one in shown]
    read = vqgan.encode(torch.cat(images)).flatten(1)
    partners = torch.randint(12, (2, 16), generator=torch.Generator().manual_seed(1))
    gpt = GPT(load_transformer("depth").config)
    adam = torch.optim.Adam(gpt.parameters(), 0.02)
    for _ in range(80):
        logits = gpt(partners[:, :-1], gpt.embed_prefix_codes(read))[:, 15:]
        adam.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), partners.flatten()).backward()
        adam.step()
    path = home / "home" / "pairs.safetensors"
    save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict())
    return dict(zip(shown, partners.view(2, 4, 4), strict=True))


def test_a_transformer_of_pairs_samples_the_partner_of_its_condition(pairs: dict[Path, Tensor]) -> None:
    for shown, partner in pairs.items():
        one = run(job(transformer="pairs", condition=str(shown), temperature=0, size=(16, 16)))
        assert torch.equal(one.codes[0], partner)
        assert one.record()["inputs"]["condition"]
    small, networks = (
        resize_and_crop(load_picture(PICTURES[2]), (16, 16)),
        {"transformer": "pairs", "vqgan": "tiny"},
    )
    first, second = (score(small, **networks, condition=str(shown)).bits for shown in pairs)
    assert first != second
    with pytest.raises(UserError, match="name that picture with condition"):
        score(small, **networks)


def test_the_condition_is_flipped_and_rolled_with_the_picture(pairs: dict[Path, Tensor]) -> None:
    shown = str(PICTURES[0])
    plain = job(transformer="pairs", condition=shown).condition
    given = job(transformer="pairs", condition=shown, complete=shown, keep="right")
    assert given.given.flipped == (False, True)
    mirrored = to_tensor(flip_picture(resize_and_crop(load_picture(shown), (40, 24)), (False, True)))
    assert torch.equal(given.condition, given.vqgan.encode(mirrored))
    around = run(job(transformer="pairs", condition=shown, seamless=True))
    assert torch.equal(around.sampler.context.spatial[:, :6, :10], plain.roll(-5, 2))


def test_top_k_zero_keeps_all_and_temperature_zero_is_greedy() -> None:
    assert torch.equal(run(job(top_k=0)).codes, run(job(top_k=13)).codes)
    assert torch.equal(run(job(temperature=0)).codes, run(job(temperature=0, seed=9)).codes)


def test_the_clip_selects_the_best_of_several_candidates() -> None:
    wish = {"transformer": "wide", "prompt": "a meadow"}
    several = run(job(**wish, grids=4))
    assert torch.equal(several.sampler.codes[:1], run(job(**wish)).codes)  # the first is what it would be alone
    pictures = torch.cat([several._decode(grid[None]) for grid in several.sampler.codes])
    liked = rerank(load_clip("starter"), pictures, ["a meadow"])
    assert int(liked.argmax()) == several.selected != 0
    assert torch.equal(several.codes, several.sampler.codes[several.selected][None])
    assert several.picture().tobytes() == to_picture(pictures[several.selected][None]).tobytes()


def test_a_grid_smaller_than_the_window_is_its_upper_left_part() -> None:
    small, large = run(job(size=(8, 12))), run(job(size=(16, 16)))
    assert torch.equal(small.codes, large.codes[:, :3, :2])


def test_a_transformer_reads_a_prompt_and_known_codes_together() -> None:
    meadow, nothing = (run(job(transformer="wide", prompt=prompt, guidance=9)).codes for prompt in ("a meadow", ""))
    assert not torch.equal(meadow, nothing)
    picture = sample.sample("a meadow", transformer="wide", complete=str(PICTURES[0]), **OWN)
    assert picture.size == OWN["size"]
    assert score(PICTURES[0], transformer="wide", vqgan="tiny").bits > 0


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def test_the_commands_sample_repeat_and_score(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(home)
    flags = ["--transformer", "plain", "--vqgan", "tiny", "--seed", "5"]
    assert command("sample", *flags, "--size", "24x16", "--top-k", "5") == 0
    assert load_picture("sample-5.png").size == (24, 16)
    assert command("sample", "--from", "sample-5.png", "--out", "again.png") == 0
    assert load_picture("again.png").tobytes() == load_picture("sample-5.png").tobytes()
    assert command("score", "again.png", "--transformer", "plain", "--vqgan", "tiny") == 0
    said = capsys.readouterr().out
    assert "bits per code, perplexity" in said and load_picture("again-surprise.png").size == (48, 16)
    assert command("sample", *flags, "--label", "dog") == 2
    assert "has no classes" in capsys.readouterr().err
    assert command("score", "nowhere.png") == 2


def test_the_starter_samples_wide_pictures_of_a_prompt() -> None:
    apple = vqtools.sample("a red apple", size=(128, 32), seed=1)
    assert apple.size == (128, 32)
    assert vqtools.sample("a green leaf", size=(128, 32), seed=1).tobytes() != apple.tobytes()
    assert vqtools.sample(size=(128, 32), seed=1).tobytes() != apple.tobytes()
    assert set(apple.info["vqtools"]["models"]) == {"vqgan", "transformer", "clip"}
