"""Stage 1 on tiny networks: it learns, resumes to the same bits, and keeps its two players apart."""

import copy

import pytest
import torch

from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.training.stage1 import Stage1, Stage1Settings

CONFIG = VQGANConfig(
    channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), resolution=16, z_channels=8, embed_dim=4,
    codebook_size=16, patch=2, mid_attention=False, norm_groups=4, metric="cosine", ema_decay=0.9,
)  # fmt: skip


def batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    colours = torch.randint(2, (4, 3, 2, 2), generator=generator) * 1.6 - 0.8  # eight colours, so that codes can tell
    return torch.nn.functional.interpolate(colours, size=16, mode="nearest")


def job(**options: object) -> Stage1:
    torch.manual_seed(0)
    short = {"steps": 60, "warmup": 2, "disc_start": 10, "disc_ramp": 4, "kmeans_batches": 2}
    settings = Stage1Settings(**short | options)
    networks = VQGAN(CONFIG), PatchDiscriminator(8, layers=2, norm="group")
    return Stage1(settings, *networks, lambda a, b: (a - b).square().mean(), batch)


def test_it_learns() -> None:
    training = job(learning_rate=3e-3)
    losses = [training.step()["pixel"] for _ in range(60)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_resumed_it_goes_on_to_the_same_bits() -> None:
    whole, first = job(), job()
    expected = [whole.step() for _ in range(16)]
    for _ in range(11):
        first.step()
    state = copy.deepcopy(first.state_dict())
    again = job(seed=5)
    again.load_state_dict(state)
    assert [again.step() for _ in range(5)] == expected[11:]
    assert all(torch.equal(a, b) for a, b in zip(again.vqgan.parameters(), whole.vqgan.parameters(), strict=True))


def test_a_discriminator_step_leaves_the_generator_untouched_and_the_other_way_round() -> None:
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
def test_the_rate_warms_up_and_falls_in_the_last_quarter(position: int, expected: float) -> None:
    training = job()
    training.position = position
    assert training.rate() == pytest.approx(expected)


def test_training_the_decoder_alone_leaves_every_code_as_it_was() -> None:
    training = job(decoder_only=True, disc_weight=0.0)
    before, decoder = training.vqgan.encode(batch(5)), copy.deepcopy(training.vqgan.decoder)
    for _ in range(3):
        training.step()
    assert torch.equal(training.vqgan.encode(batch(5)), before)
    pairs = zip(decoder.parameters(), training.vqgan.decoder.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
