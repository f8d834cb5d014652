"""The ideas of VQGAN and CLIP as figures to touch: what notebook 00 shows.

Each figure stands on small functions that return the numbers it draws.
"""

from vqtools.ui.illustrated.attention import attention_cost, two_stages
from vqtools.ui.illustrated.codes import atlas, choose_nearest, kmeans_codebook, swap
from vqtools.ui.illustrated.guidance import makes_and_judges, prompt_engineering, why_a_codebook
from vqtools.ui.illustrated.learning import (
    adaptive_weight_over_a_run,
    minimax_and_hinge,
    patch_opinions,
    terms_off,
    two_distances,
)
from vqtools.ui.illustrated.page import IllustratedSettings, open_picture, open_pictures
from vqtools.ui.illustrated.prediction import long_range, next_code, surprise, walking_window
from vqtools.ui.illustrated.seeing import convolution, perception
from vqtools.ui.illustrated.tree import knowledge

__all__ = [
    "IllustratedSettings", "adaptive_weight_over_a_run", "atlas", "attention_cost", "choose_nearest", "convolution",
    "kmeans_codebook", "knowledge", "long_range", "makes_and_judges", "minimax_and_hinge", "next_code", "open_picture",
    "open_pictures", "patch_opinions", "perception", "prompt_engineering", "surprise", "swap", "terms_off",
    "two_distances", "two_stages", "walking_window", "why_a_codebook",
]  # fmt: skip
