"""Stage 1 on tiny networks: training, resuming, and separate steps of generator and discriminator."""

import copy
from dataclasses import replace

import pytest
import torch

from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.training.losses import GENERATOR_LOSSES
from vqtools.training.settings import VQGANStageSettings
from vqtools.training.vqgan_stage import VQGANStage

CONFIG = VQGANConfig(
    channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), resolution=16, z_channels=8, embed_dim=4,
    codebook_size=16, patch=2, mid_attention=False, norm_groups=4, metric="cosine", ema_decay=0.9,
)  # fmt: skip


def batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    colours = torch.randint(2, (4, 3, 2, 2), generator=generator) * 1.6 - 0.8  # eight colours, so that codes can tell
    return torch.nn.functional.interpolate(colours, size=16, mode="nearest")


def job(**options: object) -> VQGANStage:
    torch.manual_seed(0)
    short = {"steps": 60, "warmup": 2, "disc_start": 10, "disc_ramp": 4, "kmeans_batches": 2}
    settings = VQGANStageSettings(**short | options)
    networks = VQGAN(CONFIG), PatchDiscriminator(8, layers=2, norm="group")
    return VQGANStage(settings, *networks, lambda a, b: (a - b).square().mean(), batch)


def test_training_lowers_the_loss() -> None:
    training = job(learning_rate=3e-3)
    losses = [training.step()["pixel"] for _ in range(60)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_resumed_stage_gives_the_same_bits() -> None:
    whole, first = job(), job()
    expected = [whole.step() for _ in range(16)]
    for _ in range(11):
        first.step()
    state = copy.deepcopy(first.state_dict())
    again = job(seed=5)
    again.load_state_dict(state)
    assert [again.step() for _ in range(5)] == expected[11:]
    assert all(torch.equal(a, b) for a, b in zip(again.vqgan.parameters(), whole.vqgan.parameters(), strict=True))


def test_generator_and_discriminator_steps_leave_each_other_unchanged() -> None:
    training = job(disc_start=0)
    training.step()
    images = batch(3)
    generator, discriminator = copy.deepcopy(training.vqgan), copy.deepcopy(training.discriminator)
    training.step_discriminator(images, images * 0.5)
    assert all(torch.equal(a, b) for a, b in zip(generator.parameters(), training.vqgan.parameters(), strict=True))
    now = copy.deepcopy(training.discriminator)
    pairs = zip(now.parameters(), discriminator.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    training.step_generator(images, gan=True)
    assert all(torch.equal(a, b) for a, b in zip(now.parameters(), training.discriminator.parameters(), strict=True))


@pytest.mark.parametrize(("position", "expected"), [(0, 0.5), (1, 1.0), (45, 1.0), (52, 8 / 15), (59, 0.1)])
def test_the_learning_rate_warms_up_and_decays_in_the_last_quarter(position: int, expected: float) -> None:
    training = job()
    training.position = position
    assert training.lr_factor() == pytest.approx(expected)


def test_training_the_decoder_only_keeps_every_code() -> None:
    training = job(decoder_only=True, disc_weight=0.0)
    before, decoder = training.vqgan.encode(batch(5)), copy.deepcopy(training.vqgan.decoder)
    for _ in range(3):
        training.step()
    assert torch.equal(training.vqgan.encode(batch(5)), before)
    pairs = zip(decoder.parameters(), training.vqgan.decoder.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("gan", ["hinge", "minimax"])
def test_one_backward_pass_computes_the_gradient_of_the_whole_loss(gan: str) -> None:
    """Against the loss written as one sum, its adaptive weight held fixed."""
    training = job(disc_start=0, disc_weight=0.7, disc_ramp=1, gan=gan, squared_weight=0.3, perceptual_pictures=4)
    training.generator.manual_seed(0)
    images = batch(0)
    report = training.backward(images, True, 1.0).losses
    found = [p.grad.clone() for p in training.trained]
    training.opt_g.zero_grad()
    made, _, quantized = training.vqgan(images)
    difference = made - images
    total = difference.abs().mean() + 0.3 * difference.square().mean() + 0.5 * difference.square().mean()
    loss = GENERATOR_LOSSES[gan](training.discriminator(made))
    (total + quantized.loss + 0.7 * report["adaptive"] * loss).backward()
    for grad, parameter in zip(found, training.trained, strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_an_accumulated_step_equals_the_whole_step() -> None:
    whole, parts = job(), job(accumulate=2)
    first, second = whole.step(), parts.step()
    assert second == pytest.approx(first, rel=1e-4)
    for a, b in zip(whole.vqgan.parameters(), parts.vqgan.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_dead_codes_of_a_gradient_codebook_are_revived() -> None:
    training = job(revive_below=0.5, learning_rate=1e-3, kmeans_batches=0)
    training.vqgan = plain = VQGAN(replace(CONFIG, ema_decay=None, metric="euclidean"))
    with torch.no_grad():
        plain.quantize.embedding.weight[8:] = 100.0
    training.usage[8:] = 0.0
    latents = plain.encode_latents(batch(0)).detach()
    training.update_codebook(latents, plain.encode(batch(0)))
    assert plain.codebook.abs().max() < 50
    assert training.usage[8:].min() == 1.0


@pytest.mark.parametrize("options", [{"lecam_weight": 0.3}, {"diff_augment": True}, {"gan": "vanilla"}])
def test_discriminator_regularisation_runs_and_resumes(options: dict[str, object]) -> None:
    whole, first = job(disc_start=2, **options), job(disc_start=2, **options)
    expected = [whole.step() for _ in range(6)]
    for _ in range(4):
        first.step()
    again = job(disc_start=2, **options)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    assert [again.step() for _ in range(2)] == expected[4:]
