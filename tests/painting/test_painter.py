from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.core.state_file import load_state, save_state
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.painting import prompts
from vqtools.painting.clip_loss import clamp_with_grad, prompt_losses
from vqtools.painting.cutouts import apply_cutouts, draw_cutouts
from vqtools.painting.image_losses import compute_image_losses
from vqtools.painting.painter import Painter
from vqtools.painting.prompts import format_prompts
from vqtools.painting.renderers import apply_symmetry
from vqtools.painting.settings import PRESETS, Optimiser, PaintSettings

Make = Callable[..., Painter]


def run(painter: Painter, steps: int) -> list[dict[str, float]]:
    return [painter.step() for _ in range(steps)]


def plain_gradient(painter: Painter) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient in one backward pass over everything, as the published loop has it; draws the next cuts."""
    s, targets, z = painter.settings, painter.prompt_embeddings(), painter.z.detach().clone().requires_grad_()
    image = painter.vqgan.decode_latents(painter.vqgan.quantize(z).latents)
    picture = clamp_with_grad(apply_symmetry((image + 1) / 2, s.symmetry), 0, 1)
    loss = s.init_weight / 2 * (z - painter.start).square().mean() + sum(compute_image_losses(picture, s).values())
    for clip, texts, share in zip(painter.clips, targets.embeddings, painter.clip_weights, strict=True):
        height, width = picture.shape[-2:]
        cuts = draw_cutouts(
            painter.generator, s.cutouts, height, width, clip.size, s.cut_power, s.augment, s.cut_method
        )  # fmt: skip
        embeddings = clip.embed_image(apply_cutouts(picture, cuts))
        loss = loss + prompt_losses(embeddings, texts, targets.weights, targets.stops).sum() * share
    (gradient,) = torch.autograd.grad(loss, z)
    return loss.detach(), gradient


EVERYTHING = {
    "smoothness": 0.5, "saturation": 0.2, "palette": "#ff0000 #000000 #ffffff", "symmetry": "both", "checkpoint": "on",
    "augment": "Hf Af Pe Sh Ji Gn Ro Er Et Ts Cr Re", "cut_method": "pooled",
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["usual", "everything"])
@pytest.mark.parametrize("group", range(6))
def test_the_gradient_in_two_stages_equals_one_backward_pass(
    painter: Make, tiny_clip: Any, group: int, more: Any
) -> None:
    fields = {"prompt": "a red apple:1.5 | blur:-0.5 | sky:0.3:0.9", "group": group, "init_weight": 0.2, **more}
    painting = painter(clips=[tiny_clip(), tiny_clip(size=8, seed=1)], weights=[1, 3], **fields)
    run(painting, 2)
    raw = painting.vqgan.decode_latents(painting.vqgan.quantize(painting.z.detach()).latents)
    assert (raw.abs() > 1).float().mean() > 0.1  # the clamp is at work
    draws = painting.generator.get_state()
    loss, expected = plain_gradient(painting)
    painting.generator.set_state(draws)
    scalars, gradient = painting.gradient()
    assert expected.abs().max() > 1e-4
    assert (gradient - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert math.isclose(scalars["loss"], loss.item(), rel_tol=1e-5)


@pytest.mark.parametrize("group", [0, 2])
def test_the_same_seed_gives_the_same_bits(painter: Make, group: int) -> None:
    paintings = [painter(seed=seed, group=group) for seed in (3, 3, 4)]
    for painting in paintings:
        run(painting, 3)
    first, again, other = (painting.image() for painting in paintings)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.05)


def test_steps_lower_the_loss(painter: Make) -> None:
    losses = [scalars["loss"] for scalars in run(painter(iterations=40, cutouts=16), 40)]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.02


def test_a_resumed_run_equals_an_uninterrupted_one(painter: Make, tmp_path: Path) -> None:
    unbroken = painter(init_weight=0.1)
    expected = run(unbroken, 7)
    for stop in (0, 4):
        first = painter(init_weight=0.1)
        run(first, stop)
        file = save_state(tmp_path / "state.safetensors", first.state_dict())
        run(first, 1)  # what was taken is a copy: going on leaves it alone
        start = torch.zeros_like(first.start)  # the state brings its own start along
        resumed = painter(start=start, seed=99, init_weight=0.1)
        resumed.load_state_dict(load_state(file))
        assert resumed.position == stop
        assert run(resumed, 7 - stop) == expected[stop:]
        assert torch.equal(resumed.z, unbroken.z)
        assert torch.equal(resumed.image(), unbroken.image())


def test_restoring_a_state_repeats_the_same_steps(painter: Make) -> None:
    painting = painter()
    run(painting, 2)
    state = painting.state_dict()
    run(painting, 2)
    expected = painting.image()
    painting.load_state_dict(state)
    run(painting, 2)
    assert torch.equal(painting.image(), expected)


def test_the_global_random_generator_is_neither_used_nor_advanced(painter: Make) -> None:
    torch.manual_seed(1)
    quiet = painter()
    before = torch.get_rng_state()
    run(quiet, 3)
    quiet.image()
    assert torch.equal(torch.get_rng_state(), before)
    busy = painter()
    for seed in range(3):
        torch.manual_seed(seed)
        busy.step()
    assert torch.equal(busy.image(), quiet.image())


def test_networks_are_not_changed(painter: Make) -> None:
    painting = painter()
    before = [p.clone() for module in (painting.vqgan, *painting.clips) for p in module.parameters()]
    run(painting, 2)
    after = [p for module in (painting.vqgan, *painting.clips) for p in module.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))
    assert not any(p.requires_grad for p in painting.vqgan.parameters())  # or each step would keep what they need


def test_latents_stay_within_the_range_of_the_codebook(painter: Make) -> None:
    painting = painter(learning_rate=5)
    run(painting, 3)
    codebook = painting.vqgan.codebook
    low, high = codebook.amin(0).view(1, -1, 1, 1), codebook.amax(0).view(1, -1, 1, 1)
    assert ((painting.z == low) | (painting.z == high)).any()
    assert (painting.z >= low).all() and (painting.z <= high).all()


def test_init_weight_pulls_to_the_initial_latents(painter: Make) -> None:
    start = painter(seed=7).start
    far = {}
    for weight in (0, 1000):
        painting = painter(start=start, init_weight=weight, iterations=30)
        scalars = run(painting, 20)[-1]
        far[weight] = float((painting.z.detach() - start).square().mean())
        assert ("init" in scalars) == (weight > 0)
    assert far[1000] < 0.2 * far[0]
    # by hand: the loss is w/2 · mean of squares, so its gradient is w · (z - start) / numel
    held, free = (painter(init_weight=weight) for weight in (3.0, 0.0))
    with torch.no_grad():
        for painting in (held, free):
            painting.z.add_(0.01)
    (scalars, gradient), (_, without) = held.gradient(), free.gradient()
    assert math.isclose(scalars["init"], 1.5 * 0.01**2, rel_tol=1e-3)
    torch.testing.assert_close(
        gradient - without, torch.full_like(gradient, 3 * 0.01 / gradient.numel()), atol=1e-7, rtol=0
    )


def test_a_prompt_beyond_its_stop_has_no_gradient(painter: Make) -> None:
    for prompt in ("apple:1:9", "apple:-1:0"):  # already nearer than 9; already farther than 0
        _, gradient = painter(prompt=prompt).gradient()
        assert gradient.abs().max() == 0
    for prompt in ("apple:1:0", "apple:-1:-9"):
        _, gradient = painter(prompt=prompt).gradient()
        assert gradient.abs().max() > 0


def test_the_loss_of_each_prompt_is_reported(painter: Make) -> None:
    scalars = painter(prompt="castle:2 | blur:-0.3").step()
    assert list(scalars) == ["loss", "castle", "blur"]
    assert math.isclose(scalars["loss"], scalars["castle"] + scalars["blur"], rel_tol=1e-6)
    assert scalars["blur"] < 0 < scalars["castle"]


def test_an_edit_takes_effect_at_the_next_step(painter: Make) -> None:
    edited, other = painter(), painter()
    run(edited, 2)
    other.load_state_dict(edited.state_dict())
    edited.settings.prompt = "a blue sea"
    edited.settings.cutouts = 3
    other.settings = painter(prompt="a blue sea", cutouts=3).settings
    assert list(edited.step()) == ["loss", "a blue sea"]
    other.step()
    assert torch.equal(edited.z, other.z)


def test_the_learning_rate_falls_in_the_last_quarter(painter: Make) -> None:
    painting = painter(iterations=8, learning_rate=0.2)
    rates = []
    for _ in range(8):
        painting.step()
        rates.append(painting.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2] * 6 + [0.02] * 2)


def test_the_displayed_picture_is_decoded_from_the_moving_average(painter: Make) -> None:
    painting, bare = painter(learning_rate=1), painter(learning_rate=1, ema=0)
    run(painting, 4)
    run(bare, 4)
    assert torch.equal(painting.z, bare.z)
    assert torch.equal(bare.z_ema, bare.z)
    assert not torch.equal(painting.z_ema, painting.z)
    image = painting.image()
    codes = [painting.vqgan.quantize(latents).codes for latents in (painting.z_ema, painting.z.detach())]
    assert not torch.equal(*codes)
    torch.testing.assert_close(image, painting.vqgan.decode(codes[0])[0].clamp(-1, 1))
    assert image.shape == (3, 16, 24)
    assert image.min() >= -1 and image.max() <= 1
    assert painting.preview().size == (24, 16)


def test_a_loss_that_is_not_finite_is_an_error_and_keeps_the_state(painter: Make) -> None:
    painting = painter()
    run(painting, 2)
    state, clip, embed = painting.state_dict(), painting.clips[0], painting.clips[0].embed_image
    clip.embed_image = lambda images: embed(images) * math.nan
    with pytest.raises(UserError, match=r"the loss became nan at step 3.*lower learning_rate"):
        painting.step()
    clip.embed_image = embed
    unhurt = painter()
    unhurt.load_state_dict(state)
    assert painting.step() == unhurt.step()
    assert torch.equal(painting.z, unhurt.z)


def test_a_step_that_runs_out_of_memory_changes_nothing(painter: Make) -> None:
    painting, unhurt = painter(), painter()
    run(painting, 1)
    run(unhurt, 1)
    clip, embed = painting.clips[0], painting.clips[0].embed_image

    def full(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory left")

    clip.embed_image = full
    with pytest.raises(UserError, match=r"out of memory at step 2 with 24x16 .*smaller size"):
        painting.step()
    assert painting.settings == unhurt.settings
    clip.embed_image = embed
    painting.step()
    unhurt.step()
    assert torch.equal(painting.z, unhurt.z)


def test_a_missing_seed_is_drawn(painter: Make) -> None:
    first, second = painter(seed=None), painter(seed=None)
    assert isinstance(first.settings.seed, int)
    assert first.settings.seed != second.settings.seed
    assert torch.equal(painter(seed=first.settings.seed).z, first.z)


def test_invalid_sizes_and_states_are_errors(painter: Make) -> None:
    with pytest.raises(UserError, match=r"height 17 is not a multiple of 2; the nearest is 1[68]"):
        painter(size=(24, 17))
    with pytest.raises(ValueError, match=r"start of shape \(1, 6, 3, 3\): .* need \(1, 6, 8, 12\)"):
        painter(start=torch.zeros(1, 6, 3, 3))
    with pytest.raises(UserError, match="does not fit"):
        painter().load_state_dict(painter(size=(32, 16)).state_dict())


def test_half_precision_gives_a_similar_picture(painter: Make) -> None:
    exact, half = painter(), painter(machine=Machine(torch.device("cpu"), "bf16", 1))
    (_, expected), (_, gradient) = exact.gradient(), half.gradient()
    assert gradient.dtype == torch.float32
    assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.95


def test_a_clip_in_half_precision_gives_similar_losses(painter: Make) -> None:
    half = Machine(torch.device("cpu"), "bf16", 1)
    gradients = {}
    for precision in ("auto", "same"):
        painting = painter(machine=half, clip_precision=precision)
        _, gradients[precision] = painting.gradient()
    assert not torch.equal(gradients["auto"], gradients["same"])
    assert torch.cosine_similarity(gradients["auto"].flatten(), gradients["same"].flatten(), dim=0) > 0.9


def test_presets_set_the_fields_that_are_not_given() -> None:
    assert PaintSettings.parse({"preset": "draft"}).iterations == PRESETS["draft"]["iterations"]
    chosen = PaintSettings.parse({"preset": "best", "iterations": 7})
    assert (chosen.iterations, chosen.cutouts) == (7, PRESETS["best"]["cutouts"])
    usual = PaintSettings()
    assert {"iterations": usual.iterations, "cutouts": usual.cutouts} == PRESETS[usual.preset]
    assert PaintSettings.parse(chosen.model_dump()) == chosen


def test_public_architectures_can_be_painted_with() -> None:
    import open_clip

    from vqtools.models.clip import CLIP

    name = "ViT-B-32-quickgelu"
    with torch.random.fork_rng():
        model = open_clip.create_model(name, pretrained=None)
        vqgan = VQGAN(VQGANConfig())  # the ImageNet model with f 16
    judge = CLIP(model, open_clip.get_tokenizer(name), name=name, size=224, mean=(0.48, 0.46, 0.41), std=(0.27,) * 3)
    settings = PaintSettings(prompt="a castle", size=(64, 32), seed=0, cutouts=2, iterations=2)
    painting = Painter(settings, vqgan, [judge], machine=Machine(torch.device("cpu"), "fp32", 1))
    before = painting.z.detach().clone()
    assert all(math.isfinite(scalars["loss"]) for scalars in run(painting, 2))
    assert not torch.equal(painting.z, before)
    assert painting.image().shape == (3, 32, 64)


def test_picture_prompts_pull_towards_the_picture(painter: Make, tmp_path: Path) -> None:
    file = tmp_path / "red 12:30.png"
    Image.new("RGB", (20, 12), "red").save(file)
    prompt = format_prompts([prompts.Prompt(f"picture:{file}", 2), prompts.Prompt("a red apple")])
    painting = painter(prompt=prompt, cutouts=8, iterations=40)
    names = [name for name in painting.step() if name != "loss"]
    assert names == [f"picture:{file}", "a red apple"]
    losses = [scalars[names[0]] for scalars in run(painting, 30)]
    assert sum(losses[-5:]) < sum(losses[:5])
    clip = painting.clips[0]
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, -1, 16, 16)
    torch.testing.assert_close(
        painting.prompt_embeddings().embeddings[0][0], clip.embed_image(red)[0], atol=1e-5, rtol=0
    )


def test_a_picture_prompt_without_a_picture_is_an_error_and_changes_nothing(painter: Make, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    for name, says in (("words.png", "not a picture that can be read"), ("none.png", "not there"), ("", "a folder")):
        painting = painter(prompt=f"picture:{tmp_path / name}")
        with pytest.raises(UserError, match=says):
            painting.step()
        assert painting.position == 0
    with pytest.raises(UserError, match="without a file"):
        painter(prompt="picture: :2")


def test_equal_prompts_are_reported_under_different_names(painter: Make) -> None:
    scalars = painter(prompt="sky | sky:2").step()
    assert list(scalars) == ["loss", "sky", "sky (2)"]
    assert math.isclose(scalars["loss"], 3 * scalars["sky"], rel_tol=1e-6)


def test_running_out_of_memory_halves_the_group_and_keeps_the_random_numbers(painter: Make) -> None:
    painting, same = painter(cutouts=8), painter(cutouts=8, group=2)
    clip, embed = painting.clips[0], painting.clips[0].embed_image

    def small(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return embed(images)

    clip.embed_image = small
    assert run(painting, 3) == run(same, 3)
    assert torch.equal(painting.z, same.z)
    assert painting.settings.group == 2
    assert painting.notes == [
        "step 1 ran out of memory with 8 cutouts at a time; continuing with 4",
        "step 1 ran out of memory with 4 cutouts at a time; continuing with 2",
    ]


def test_running_out_of_memory_in_the_decoder_switches_on_checkpointing(painter: Make) -> None:
    painting, same = painter(group=1), painter(group=1)

    def full(latents: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    painting.renderer._draw = full  # the forgetful drawer is another one
    assert painting.step() == same.step()
    assert torch.equal(painting.z, same.z)
    assert painting.settings.checkpoint == "on" and "gradient checkpointing" in painting.notes[0]


def test_other_errors_are_not_taken_for_out_of_memory(painter: Make) -> None:
    painting = painter()

    def broken(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    painting.clips[0].embed_image = broken
    with pytest.raises(RuntimeError, match="multiplied"):
        painting.step()
    assert painting.notes == []


@pytest.mark.parametrize("name", get_args(Optimiser))
def test_every_optimiser_can_be_resumed(painter: Make, name: str, tmp_path: Path) -> None:
    unbroken, first = painter(optimiser=name), painter(optimiser=name)
    run(unbroken, 5)
    run(first, 2)
    resumed = painter(optimiser=name)
    resumed.load_state_dict(load_state(save_state(tmp_path / "s.safetensors", first.state_dict())))
    run(resumed, 3)
    assert torch.equal(resumed.z, unbroken.z) and not torch.equal(unbroken.z, unbroken.start)


def test_init_weight_decays(painter: Make) -> None:
    painting = painter(init_weight=2.0, init_decay=0.25, iterations=8)
    weights = []
    for _ in range(5):
        weights.append(painting.init_weight)
        painting.step()
    assert weights == pytest.approx([2 * 0.25 ** (i / 8) for i in range(5)])
    assert weights[4] == pytest.approx(1.0)


def test_pixels_can_be_optimised_without_a_vqgan(painter: Make) -> None:
    painting = painter(drawer="pixels", size=(23, 17), iterations=40)
    losses = [scalars["loss"] for scalars in run(painting, 30)]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert painting.image().shape == (3, 17, 23)
    assert painting.z.min() >= 0 and painting.z.max() <= 1
