"""The ideas of VQGAN and CLIP as figures to touch: what notebook 00 shows.

Each figure stands on small functions that return the numbers it draws.
"""

from vqtools.ui.illustrated.attention import attention_cost, sequence_costs
from vqtools.ui.illustrated.codes import choose_nearest, codebook_atlas, kmeans_codebook, swap_code
from vqtools.ui.illustrated.guidance import codebook_vs_pixels, guidance_loop, prompt_engineering
from vqtools.ui.illustrated.learning import (
    adaptive_weight_curve,
    discriminator_maps,
    loss_ablation,
    minimax_and_hinge,
    pixel_vs_perceptual,
)
from vqtools.ui.illustrated.page import IllustratedSettings, open_picture, open_pictures
from vqtools.ui.illustrated.prediction import attention_maps, next_code, nll_maps, sliding_window
from vqtools.ui.illustrated.seeing import convolution, pixels_to_codes
from vqtools.ui.illustrated.tree import idea_tree

__all__ = [
    "IllustratedSettings", "adaptive_weight_curve", "codebook_atlas", "attention_cost", "choose_nearest", "convolution",
    "kmeans_codebook", "idea_tree", "attention_maps", "guidance_loop", "minimax_and_hinge", "next_code", "open_picture",
    "open_pictures", "discriminator_maps", "pixels_to_codes", "prompt_engineering", "nll_maps", "swap_code", "loss_ablation",
    "pixel_vs_perceptual", "sequence_costs", "sliding_window", "codebook_vs_pixels",
]  # fmt: skip
