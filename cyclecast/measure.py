"""What a frame model is worth, run by its engine: the trainer's figures, and flicker on a clip. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cyclecast.runtime.model import Model
from cyclecast.training.config import data_settings
from cyclecast.training.evaluate.flicker import warping_error
from cyclecast.training.evaluate.translation import Places, evaluate_translation
from cyclecast.training.recipes.settings import TranslationConfig
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image


def measure_model(
    model: Model, data: Path | None, clip: Path | None, seconds: float, side: int, inception: Path | None, seed: int
) -> dict[str, dict[str, Any]]:
    """The figures of a frame model under the direction that its metadata tell, a2b where they tell none."""

    def translate(images: torch.Tensor) -> torch.Tensor:
        frames = images.permute(0, 2, 3, 1).flip(3).contiguous().numpy()  # (N, S, S, 3) BGR
        return torch.stack([torch.from_numpy(model(frame)) for frame in frames]).flip(3).permute(0, 3, 1, 2).contiguous()

    direction = model.spec.direction or "a2b"
    figures: dict[str, Any] = {}
    if data is not None:
        places = Places.read(data_settings(TranslationConfig, data))
        figures |= evaluate_translation(translate, direction, places, side=side, inception=inception, seed=seed)
    if clip is not None:
        flicker = warping_error(beginning(clip, seconds), map(model, beginning(clip, seconds)))
        floor = warping_error(beginning(clip, seconds), beginning(clip, seconds))
        figures |= {"warping_error": flicker.mean, "warping_error_of_the_source": floor.mean, "frames": flicker.frames}
    return {direction: figures}


def beginning(clip: Path, seconds: float) -> Iterator[Image]:
    """The clip's frames of its first `seconds`, (H, W, 3) uint8 BGR."""
    with VideoFile(clip) as video:
        begin = None
        for frame in video:
            at = frame.pts * video.info.time_base
            begin = at if begin is None else begin
            if at - begin >= seconds:
                return
            yield frame.image
