"""Measures a frame model in its engine: the figures of `evaluate_run`, and flicker on a clip. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from cyclecast.errors import InputError, ModelError
from cyclecast.runtime.model import Model
from cyclecast.training.config import data_settings
from cyclecast.training.evaluate.domains import DomainPaths, replace_domains
from cyclecast.training.evaluate.flicker import warping_error
from cyclecast.training.evaluate.translation import DIRECTIONS, evaluate_translation
from cyclecast.training.recipes.settings import TranslationConfig
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image


def measure_model(
    model: Model,
    data: Path | None,
    clip: Path | None,
    seconds: float,
    side: int,
    inception: Path | None,
    seed: int,
    domain_a: Path | None = None,
    domain_b: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns the figures of a frame model, under the direction in its metadata (a2b if there is none).

    data: as `--data` in training. domain_a, domain_b: other images of these domains. clip: a video whose first `seconds` are
    styled to measure flicker. side: pixels of the center crops of the data. inception: a file of Inception weights; None: other
    features. seed: of the classifiers. Raises ModelError if the metadata name another direction, InputError if data are missing
    or too few.
    """

    def translate(images: torch.Tensor) -> torch.Tensor:
        frames = images.permute(0, 2, 3, 1).flip(3).contiguous().numpy()  # (N, S, S, 3) BGR
        return torch.stack([torch.from_numpy(model(frame)) for frame in frames]).flip(3).permute(0, 3, 1, 2).contiguous()

    direction = model.spec.direction or "a2b"
    if direction not in DIRECTIONS:
        raise ModelError(
            f"{model.name}: its metadata name the direction {direction!r}, expected a2b or b2a; "
            "export it again with this version of cyclecast"
        )
    figures: dict[str, Any] = {}
    if data or domain_a or domain_b:
        if data and data.is_file():
            raise InputError(
                f"{data}: a file; expected a folder with trainA and trainB, or with train and train_labels "
                "(for files of digits: --domain-a and --domain-b)"
            )
        paths = DomainPaths.from_settings(replace_domains(data_settings(TranslationConfig, data), domain_a, domain_b))
        figures |= evaluate_translation(translate, direction, paths, side=side, inception=inception, seed=seed)
    if clip is not None:
        figures |= _flicker_figures(model, clip, seconds)
    return {direction: figures}


def _flicker_figures(model: Model, clip: Path, seconds: float) -> dict[str, Any]:
    count = len(list(islice(first_frames(clip, seconds), 2)))
    if count < 2:
        raise InputError(
            f"{clip}: flicker compares neighboring frames, so it needs two or more; its first {seconds:g} s hold {count}; "
            "name a longer clip, or raise --seconds"
        )
    styled = warping_error(first_frames(clip, seconds), map(model, first_frames(clip, seconds)))
    source = warping_error(first_frames(clip, seconds), first_frames(clip, seconds))
    return {"warping_error": styled.mean, "warping_error_of_the_source": source.mean, "frames": styled.frames}


def first_frames(clip: Path, seconds: float) -> Iterator[Image]:
    """Yields the frames of the clip's first `seconds`, (H, W, 3) uint8 BGR."""
    with VideoFile(clip) as video:
        start = None
        for frame in video:
            time = frame.pts * video.info.time_base
            start = time if start is None else start
            if time - start >= seconds:
                return
            yield frame.image
