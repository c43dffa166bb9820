"""Tries an engine on one small frame before `auto` chooses it: a driver may fail, or compute another image than the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import numpy as np

from cyclecast.errors import EngineError, ModelError
from cyclecast.runtime.engine import Engine, Image
from cyclecast.runtime.model_file import ModelFile

TRIAL_SIZE = (64, 64)  # (width, height) of the frame
MIN_PSNR_DB = 40.0  # against the CPU in fp32

FrameOnCpu = Callable[[ModelFile, Image], Image | None]
"""Runs a frame through the model on the CPU; None if that fails."""

log = logging.getLogger(__name__)

# What earlier comparisons of this process found: None for a pass, otherwise the reason for a failure. A live run opens its model
# again for each processing resolution. Keys: digest of the model, engine, device, precision.
verdicts: dict[tuple[str, str, str, str], str | None] = {}


@cache
def draw_trial_frame(width: int, height: int) -> Image:
    """Draws hills with texture below a sky with a sun: (height, width, 3) uint8 BGR, the same each time."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    is_ground = (y > 0.5 + 0.1 * np.sin(7 * x) + 0.03 * np.sin(23 * x))[..., None]
    sky = np.stack([235 - 60 * y, 190 - 30 * y, 130 + 60 * y], axis=-1)
    ground = np.stack([50 + 30 * x, 90 + 70 * y, 80 + 50 * x], axis=-1) + 20 * (np.sin(61 * x) * np.sin(47 * y))[..., None]
    sun = 120 * np.exp(-((x - 0.7) ** 2 + (y - 0.2) ** 2) / 0.01)[..., None]
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    frame: Image = np.clip(np.where(is_ground, ground, sky + sun) + noise, 0, 255).astype(np.uint8)
    return frame


def find_failure(engine: Engine, file: ModelFile, frame_on_cpu: FrameOnCpu | None) -> str | None:
    """Runs a small frame, and returns why the engine should not be chosen; None if it may be.

    frame_on_cpu: computes the frame to compare with, at `MIN_PSNR_DB` at least; None: the engine only has to run a frame.
    """
    if frame_on_cpu is None:
        return _try(engine, file, None)
    key = (file.digest, engine.name, engine.device, engine.precision)
    if key not in verdicts:
        verdicts[key] = _try(engine, file, frame_on_cpu)
    return verdicts[key]


def _try(engine: Engine, file: ModelFile, frame_on_cpu: FrameOnCpu | None) -> str | None:
    from cyclecast.runtime.bench import psnr_db  # which imports the engines

    frame = draw_trial_frame(*(engine.size or TRIAL_SIZE))
    try:
        styled = engine.run(frame)
    except Exception as error:  # whatever a driver or a library raises
        log.debug("%s %s cannot run %s", engine.name, engine.precision, file.path, exc_info=True)
        if isinstance(error, EngineError | ModelError):
            return str(error)
        return f"{engine.name} failed on {engine.device}: {' '.join(str(error).split())[:200] or type(error).__name__}"
    expected = None if frame_on_cpu is None else frame_on_cpu(file, frame)
    if expected is None:
        return None
    psnr = psnr_db([expected], [styled])
    if psnr >= MIN_PSNR_DB:
        return None
    return (
        f"{engine.name} {engine.precision} on {engine.device} computes another frame than the CPU: "
        f"{psnr:.1f} dB, expected at least {MIN_PSNR_DB:g}"
    )
