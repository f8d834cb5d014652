"""The VQGAN has the shapes of the public checkpoints and reproduces the stored values of the reference."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtools.models.vqgan import VQGAN, VQGANConfig

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = VQGANConfig(
    channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), resolution=16, z_channels=8, embed_dim=4,
    codebook_size=16, patch=2, mid_attention=False, norm_groups=4, metric="cosine",
)  # fmt: skip


def test_parameters_equal_those_of_the_public_imagenet_model() -> None:
    lines = (GOLDEN / "keys" / "f16_1024.txt").read_text().splitlines()
    expected = {line.split(" ")[0]: line.split("(")[1].split(")")[0] for line in lines}
    with torch.device("meta"):
        state = VQGAN(VQGANConfig()).state_dict()
    found = {name: ", ".join(map(str, value.shape)) + ("," if value.ndim == 1 else "") for name, value in state.items()}
    assert found == expected


@pytest.fixture(scope="module")
def reference() -> tuple[VQGAN, dict[str, torch.Tensor]]:
    stored = load_file(GOLDEN / "taming_vqmodel.safetensors")
    config = VQGANConfig(
        channels=32, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(16,), resolution=32, z_channels=32,
        embed_dim=16, codebook_size=64,
    )  # fmt: skip
    model = VQGAN(config)
    model.load_state_dict({k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")})
    return model, stored


def test_the_reference_image_has_the_reference_codes_and_reconstruction(reference) -> None:
    model, stored = reference
    with torch.no_grad():
        latents = model.encode_latents(stored["image"])
        reconstruction, _, quantized = model(stored["image"])
    torch.testing.assert_close(latents, stored["latent"], rtol=0, atol=1e-5)
    assert torch.equal(quantized.codes, stored["codes"])
    assert torch.equal(model.encode(stored["image"]), stored["codes"])
    torch.testing.assert_close(quantized.latents, stored["quantized"], rtol=0, atol=1e-5)
    torch.testing.assert_close(reconstruction, stored["reconstruction"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(stored["codes"]), stored["reconstruction"], rtol=0, atol=1e-5)
    torch.testing.assert_close(quantized.loss, stored["quantizer_loss"], rtol=0, atol=1e-5)


def test_latents_of_codes_quantise_to_the_same_codes() -> None:
    torch.manual_seed(0)
    model = VQGAN(TINY)
    codes = torch.randint(16, (2, 3, 5))
    assert torch.equal(model.quantize(model.codes_to_latents(codes)).codes, codes)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (32, 16)])
def test_every_multiple_of_f_is_a_valid_size(height: int, width: int) -> None:
    model = VQGAN(TINY)
    image = torch.zeros(1, 3, height, width)
    codes = model.encode(image)
    assert codes.shape == (1, height // model.f, width // model.f)
    assert model.decode(codes).shape == image.shape


def test_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"21x16.*multiples of 4"):
        VQGAN(TINY).encode(torch.zeros(1, 3, 16, 21))


def test_gradients_reach_the_latents_through_the_decoder() -> None:
    torch.manual_seed(0)
    model = VQGAN(TINY)
    latents = torch.randn(1, 4, 3, 3, requires_grad=True)
    model.decode_latents(model.quantize(latents).latents).sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


def test_a_config_is_restored_from_json_and_unknown_fields_are_errors() -> None:
    assert VQGANConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    with pytest.raises(ValueError, match="colour"):
        VQGANConfig.from_dict({"colour": 1})


def test_attention_over_many_positions_allocates_no_full_matrix() -> None:
    """16,384 positions: the matrix alone would take 1 GB. In a process of its own, to measure its peak memory."""
    program = (
        "import resource, torch\nfrom vqtools.models.vqgan import AttnBlock\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20\n"
        "block, x = AttnBlock(32, 4).requires_grad_(False), torch.randn(1, 32, 128, 128)\n"
        "block(x[..., :32, :32])\nbefore = peak()\nblock(x)\nprint(peak() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 0.3
