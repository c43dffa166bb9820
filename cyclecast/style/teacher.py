"""Generates pairs with a teacher, a slow generator: crops of footage, and its output for them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import cyclecast
from cyclecast.errors import ConfigError, ModelError
from cyclecast.export import state_dicts
from cyclecast.export.adopt import adopt
from cyclecast.export.adopt.overrides import Overrides
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.runtime.model import Model
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.style.crops import SIDE, OnProgress, PairFolders
from cyclecast.style.looks import Teacher
from cyclecast.training.data import resize_short_side
from cyclecast.training.networks import LatentGenerator
from cyclecast.video.files.images import read_image
from cyclecast.video.frame import Image

STRIDE = 4  # pixels: the stride of most generators, within which their input is shifted


@dataclass(frozen=True)
class TeacherView:
    """How a teacher sees footage, as in the recipe `distill`."""

    height: int | None = None
    """Pixels to which the shorter side of frames is resized before crops are taken. None: their own size, 720 at most."""
    scale: float = 1.0
    """Share of their size at which the teacher sees crops: at 0.5, its strokes become twice as large."""
    shifts: int = 1
    """The teacher's output is averaged over shifts x shifts positions of its input, which removes its grid."""


class PairMaker:
    """Generates pairs: a random crop of the footage, and the teacher's output for it.

    size: (width, height) that the teacher sees: the size that it is fixed to, or SIDE x SIDE. A pair depends only on the seed
    and on its number, so that an interrupted run can resume.
    """

    def __init__(self, model: Model, frames: Sequence[Path], seed: int, view: TeacherView) -> None:
        self.model, self.frames, self.seed, self.view = model, frames, seed, view
        fixed = model.engine.size or model.spec.architecture.get("size")  # an adopted model of a fixed size rescales others
        self.size: tuple[int, int] = tuple(fixed) if fixed else (SIDE, SIDE)

    def time_pair(self) -> float:
        """Measures the seconds for a pair, after one to warm up."""
        self.model.prepare(*self.size)
        self._pair(0)
        start = time.perf_counter()
        self._pair(1)
        return time.perf_counter() - start

    def make_all(self, folders: PairFolders, on_progress: OnProgress) -> None:
        """Generates and writes the pairs that are missing."""
        for number in range(folders.total):
            if not folders.has_pair(number):
                folders.write(number, *self._pair(number))
            on_progress(number + 1, folders.total)

    def _pair(self, number: int) -> tuple[Image, Image]:
        crop = draw_crop(self.frames, number, self.seed, self.size, self.view)
        return crop, style_crop(self.model, crop, self.size, self.view)


def convert_teacher(
    teacher: Teacher,
    adopted: Path,
    images: Sequence[Image],
    color: str | None = None,
    key: str | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Path:
    """Returns the path of the teacher as a frame model or plan: its own file, or one that is written to `adopted`.

    images: to try it on, (H, W, 3) uint8 BGR. color, key: as in `StyleOptions`. on_message: called with a line for each thing
    that a .pth leaves open. Raises ModelError (not an image-to-image generator) or ConfigError (a convention that
    cannot be detected, several generators).
    """
    if key is not None and not teacher.is_pytorch:
        raise ConfigError(f"--key is for a .pth that holds several generators, not for {teacher.path}: leave --key out")
    if adopted.exists():
        return adopted
    if teacher.is_pytorch:
        trained = read_generator(teacher.path, overrides=state_dicts.Overrides(key=key))
        for finding in trained.findings:
            (on_message or (lambda line: None))(f"{teacher.path.name}: {finding}")
        if isinstance(trained.network, LatentGenerator):
            raise ModelError(f"{teacher.path}: generates images from noise; expected a generator that turns images into images")
        export_onnx(dataclasses.replace(trained, frames=list(images)), adopted)
        return adopted
    try:
        if color != "rgb":
            cyclecast.load(teacher.path).close()
            return teacher.path
    except ModelError:
        if engine_of_plan(teacher.path) is not None:
            raise
    adopt(teacher.path, adopted, images, Overrides(color=color))
    return adopted


def draw_crop(frames: Sequence[Path], number: int, seed: int, size: tuple[int, int], view: TeacherView) -> Image:
    """Cuts a random crop, (H, W, 3) uint8 BGR, from a random frame. It depends only on the seed and the number.

    size: (width, height) that the teacher sees; the crop is larger by 1 / view.scale.
    """
    random = np.random.default_rng((seed, number))
    frame = read_image(frames[int(random.integers(len(frames)))])
    if view.height is not None:
        frame = resize_short_side(frame, view.height)
    width, height = (max(16, round(side / view.scale)) for side in size)
    if frame.shape[0] < height or frame.shape[1] < width:
        frame = resize_short_side(
            frame, max(1, round(min(frame.shape[:2]) * max(height / frame.shape[0], width / frame.shape[1])))
        )
        if frame.shape[0] < height or frame.shape[1] < width:  # rounded down
            frame = np.asarray(cv2.resize(frame, (max(width, frame.shape[1]), max(height, frame.shape[0]))), np.uint8)
    top = int(random.integers(frame.shape[0] - height + 1))
    left = int(random.integers(frame.shape[1] - width + 1))
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def style_crop(teacher: Callable[[Image], Image], crop: Image, size: tuple[int, int], view: TeacherView) -> Image:
    """Runs the teacher on a crop, scaled to `size` (width, height); returns its output at the crop's size."""
    if crop.shape[1::-1] != size:
        seen = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA if view.scale < 1 else cv2.INTER_CUBIC), np.uint8)
        styled = _shift_averaged(teacher, seen, view.shifts)
        return np.asarray(cv2.resize(styled, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    return _shift_averaged(teacher, crop, view.shifts)


def _shift_averaged(teacher: Callable[[Image], Image], image: Image, shifts: int) -> Image:
    """Averages the teacher's outputs for the image, which is padded by reflection, at shifts x shifts offsets within a stride."""
    if shifts == 1:
        return teacher(image)
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, STRIDE, STRIDE, STRIDE, STRIDE, cv2.BORDER_REFLECT_101)
    total = np.zeros(image.shape, np.float32)
    for y in range(shifts):
        for x in range(shifts):
            top, left = y * STRIDE // shifts, x * STRIDE // shifts
            part = np.ascontiguousarray(padded[top : top + height, left : left + width], np.uint8)
            moved = teacher(part).astype(np.float32)
            shift = np.array([[1, 0, left - STRIDE], [0, 1, top - STRIDE]], np.float32)
            back = cv2.warpAffine(moved, shift, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            total += np.asarray(back, np.float32)
    return np.asarray((total / shifts**2).round(), np.uint8)
