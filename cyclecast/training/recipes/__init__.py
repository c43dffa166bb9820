"""The systems that can be trained: one file each, one line in this dict."""

from __future__ import annotations

from cyclecast.training.recipes.cyclegan import CycleGan

RECIPES = {
    "cyclegan": CycleGan,
}
