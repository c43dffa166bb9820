"""Measures how close a model's frames are to a target style: the share that a classifier accepts, KID, chroma, structure, time.

Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
from torch import Tensor

from cyclecast.errors import ConfigError, InputError, MissingInputError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.verify import Reference
from cyclecast.runtime.bench import median_ms
from cyclecast.runtime.model import Model
from cyclecast.training import checkpoint
from cyclecast.training.data.images import (
    decode,
    is_tiny,
    list_images,
    resize,
    resize_short_side,
    spaced_indices,
)
from cyclecast.training.evaluate.distribution import ImageNetFeatures, extract_features, fid_kid_of_features
from cyclecast.training.evaluate.flicker import structure_kept
from cyclecast.training.evaluate.patch_classifier import PATCH, PatchClassifier, mean_chroma, train_patch_classifier
from cyclecast.training.networks import LatentGenerator
from cyclecast.video.files.images import SUFFIXES, read_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

MOST_IMAGES = 400  # of the target and of the photos each; more are sampled evenly
FEWEST_IMAGES = 8  # of a folder, so that the quarter held out is two or more
SET_PATCHES = 800  # of each set, about: fewer of each image where there are more images
QUARTER_PATCHES = 32  # of each quarter of a single target image
FRAME_PATCHES = 16  # of each frame, and at most of each image of a set
SCALES = (0.7, 1.4)  # by which images of the sets are resized before a patch is cut, so that sharpness alone tells little
MOST_FRAMES = 32  # of a folder of frames, and of the photos held out
VIDEO_FRAMES = 8  # of a video
KID_PATCHES = 160  # of each set
QUALITY = 90  # of the JPEG code that every image passes, so that compression tells nothing
TIMED_SIZE = (1280, 720)

OnProgress = Callable[[str, int, int], None]  # name of the stage, done, total


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Patches of the target or of the photos, (N, 3, 128, 128) uint8 RGB, split into those for training and those held out."""

    training: Tensor
    held_out: Tensor
    held_out_paths: list[Path]
    """The images of the patches that are held out; empty for a single image."""

    @property
    def all(self) -> Tensor:
        """Returns all patches."""
        return torch.cat([self.training, self.held_out])


@dataclass(frozen=True, eq=False)
class StyleReference:
    """The classifier and the figures that the frames of any model are compared with."""

    classifier: PatchClassifier
    target: Tensor
    """Features of the target's patches, see `_kid_features`."""
    frames: list[Image]
    """The frames to style, (H, W, 3) uint8 BGR."""
    controls: dict[str, float]
    """The figures of the target, of the photos and of the raw frames."""
    seed: int
    """Of the patches' places."""


def prepare_reference(
    target: Path, photos: Path, frames: Sequence[Path], height: int, seed: int, on_progress: OnProgress
) -> StyleReference:
    """Trains the classifier, and measures the target, the photos and the raw frames.

    target: a folder of images, or one image, of which two quarters are held out. photos: a folder. A quarter of each folder's
    images is held out. frames: images, folders of images, and videos; if there are none, the photos that are held out. height:
    pixels of the frames' shorter side. seed: of the split and of the patches' places. on_progress: called with the name of a
    stage, what is done and the total. Raises InputError if a path is missing, is of another type, or holds too few images.
    """
    if not target.exists():
        raise MissingInputError(f"{target}: no such image or folder")
    if not photos.is_dir():
        raise InputError(f"{photos}: {'a file' if photos.exists() else 'no such folder'}; expected a folder of photos")
    raw_frames = [frame for path in frames for frame in read_frames(path, height)]
    targets = read_set(target, height // 2, seed, on_progress) if target.is_dir() else quarter_image(target, height // 2, seed)
    photo_set = read_set(photos, height // 2, seed, on_progress)
    if not raw_frames:
        raw_frames = [resize_short_side(image, height) for image in _read_images(photo_set.held_out_paths[:MOST_FRAMES])]
    on_progress("training the classifier", 0, 3)
    classifier = train_patch_classifier(targets.training, photo_set.training)
    on_progress("training the classifier", 1, 3)
    raw = torch.cat([frame_patches(frame, seed + index) for index, frame in enumerate(raw_frames)])
    controls = {
        "judge_share_of_real_targets": classifier.share(targets.held_out),
        "judge_share_of_real_photos": classifier.share(photo_set.held_out),
        "judge_share_of_raw_frames": classifier.share(raw),
        "chroma_of_targets": mean_chroma(targets.all),
        "chroma_of_raw_frames": mean_chroma(raw),
    }
    on_progress("training the classifier", 2, 3)
    target_features = _kid_features(targets.all)
    controls["patch_kid_of_photos"] = _kid(target_features, photo_set.all, seed)
    on_progress("training the classifier", 3, 3)
    return StyleReference(classifier, target_features, raw_frames, controls, seed)


def measure_style(model: Model, reference: StyleReference, on_progress: OnProgress) -> dict[str, float]:
    """Styles the frames and returns figures by name, with the controls of the reference.

    judged_frames: number of frames. judge_share: share of patches that are classified as the target. chroma: mean in CIE Lab.
    patch_kid: KID to the target's patches, in the features of EfficientNet-Lite2. frames_structure_kept: SSIM to the source.
    ms_at_1280x720: milliseconds of a frame; left out for a model of another fixed size.
    """
    patches, kept = [], []
    for index, frame in enumerate(reference.frames):
        styled = model(frame)
        patches.append(frame_patches(styled, reference.seed + index))
        kept.append(structure_kept(frame, styled))
        on_progress("styling frames", index + 1, len(reference.frames))
    found = torch.cat(patches)
    figures: dict[str, float] = {
        "judged_frames": len(reference.frames),
        "judge_share": reference.classifier.share(found),
        "chroma": mean_chroma(found),
        "patch_kid": _kid(reference.target, found, reference.seed),
        "frames_structure_kept": mean(kept),
    }
    if model.engine.size in (None, TIMED_SIZE):
        scene = Scene(*TIMED_SIZE)
        figures["ms_at_1280x720"] = median_ms(model, [scene.draw(0), scene.draw(2)])
    return figures | reference.controls


def models_of_run(path: Path) -> dict[str, Model]:
    """Reads the generators of a run or a checkpoint: direction -> model, in PyTorch on the CPU.

    Raises ModelError if there is no checkpoint, ConfigError for a recipe that draws from noise.
    """
    models = {}
    for direction in checkpoint.load(path).get("exports") or ():
        network = read_generator(path, direction).network
        if isinstance(network, LatentGenerator):
            raise ConfigError(f"{path}: its generator draws from noise; --judge needs one that styles frames")
        models[direction] = Model(path.name, Reference(network))
    return models


def read_frames(path: Path, height: int) -> list[Image]:
    """Reads an image, or a few evenly spaced images of a folder or frames of a video: (H, W, 3) uint8 BGR each.

    Resizes the shorter side to `height` pixels. Raises InputError if the path is missing or cannot be read.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such image, folder or video")
    if path.is_dir():
        paths = list_images(path)
        frames = _read_images([paths[index] for index in spaced_indices(len(paths), MOST_FRAMES)])
        if not frames:
            raise InputError(f"{path}: none of its {len(paths)} images can be read")
    elif path.suffix.lower() in SUFFIXES:
        frames = [read_image(path)]
    else:
        frames = list(_frames_of_video(path))
    return [resize_short_side(frame, height) for frame in frames]


def _frames_of_video(path: Path) -> Iterator[Image]:
    """Yields up to `VIDEO_FRAMES` frames of a video, the middles of parts of equal length. Seeks, because a video may be long."""
    with VideoFile(path) as video:
        times, time_base = video.times() or [0], video.info.time_base
    places = {(2 * part + 1) * len(times) // (2 * VIDEO_FRAMES) for part in range(VIDEO_FRAMES)}
    for place in sorted(places):
        with VideoFile(path, TimeRange(start=Fraction(times[place] * time_base))) as video:
            frame = next(iter(video), None)
            if frame is not None:  # None: nothing behind this time can be decoded
                yield frame.image


def read_set(folder: Path, side: int, seed: int, on_progress: OnProgress) -> ImageSet:
    """Cuts patches from a folder's images, of which a quarter is held out. side: as in `sample_patches`.

    Raises InputError if fewer than `FEWEST_IMAGES` can be read.
    """
    paths = list_images(folder)
    random = np.random.default_rng(seed)
    chosen = [paths[index] for index in random.permutation(spaced_indices(len(paths), MOST_IMAGES))]
    count = min(FRAME_PATCHES, -(-SET_PATCHES // len(chosen)))
    readable, patches = [], []
    for index, path in enumerate(chosen):
        for image in _read_images([path]):
            readable.append(path)
            patches.append(sample_patches(image, side, count, random))
        on_progress(f"reading {folder.name}", index + 1, len(chosen))
    if len(readable) < FEWEST_IMAGES:
        raise InputError(f"{folder}: --judge needs {FEWEST_IMAGES} or more readable images in a folder, got {len(readable)}")
    most = 3 * len(readable) // 4
    return ImageSet(torch.cat(patches[:most]), torch.cat(patches[most:]), readable[most:])


def quarter_image(path: Path, side: int, seed: int) -> ImageSet:
    """Cuts patches from a single image: two opposite quarters are for training, the other two are held out.

    So each half has a part of the top and of the bottom, which differ in most images: sky and ground. side: as in
    `sample_patches`. Raises InputError if the image cannot be read.
    """
    image = read_image(path)
    random = np.random.default_rng(seed)
    image = resize_short_side(image, max(2 * PATCH, min(side, *image.shape[:2])))  # so that a quarter has room for a patch
    height, width = (length // 2 for length in image.shape[:2])
    quarters = image[:height, :width], image[height:, width:], image[:height, width:], image[height:, :width]
    patches = [sample_patches(quarter, side, QUARTER_PATCHES, random) for quarter in quarters]
    return ImageSet(torch.cat(patches[:2]), torch.cat(patches[2:]), [])


def sample_patches(image: Image, side: int, count: int, random: np.random.Generator) -> Tensor:
    """Cuts `count` patches from an (H, W, 3) BGR image at random places and scales: (count, 3, 128, 128) uint8 RGB.

    side: pixels of the shorter side of the frames that they are compared with. A larger image is shrunk to it; then a factor
    from `SCALES` applies, but no image becomes smaller than a patch.
    """
    short = min(side, *image.shape[:2])
    lengths = (max(PATCH, round(short * scale)) for scale in np.geomspace(*SCALES, 256)[random.integers(0, 256, count)])
    return torch.cat([cut_patches(resize_short_side(image, length), 1, random) for length in lengths])


def frame_patches(frame: Image, seed: int) -> Tensor:
    """Cuts patches from a frame at half its size: (16, 3, 128, 128) uint8 RGB. Size and seed determine the places."""
    height, width = frame.shape[:2]
    return cut_patches(resize(frame, (height // 2, width // 2)), FRAME_PATCHES, np.random.default_rng(seed))


def cut_patches(image: Image, count: int, random: np.random.Generator) -> Tensor:
    """Codes an (H, W, 3) BGR image as JPEG, and cuts `count` patches at random places: (count, 3, 128, 128) uint8 RGB."""
    code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    coded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), np.uint8)
    tops, lefts = (random.integers(0, length - PATCH + 1, count) for length in coded.shape[:2])
    cut = [coded[top : top + PATCH, left : left + PATCH] for top, left in zip(tops, lefts, strict=True)]
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


def _read_images(paths: Sequence[Path]) -> list[Image]:
    """Reads the images that can be decoded and are not tiny, (H, W, 3) uint8 BGR."""
    images = (decode(path, cv2.IMREAD_COLOR) for path in paths)
    return [image for image in images if image is not None and not is_tiny(image)]


def _kid_features(patches: Tensor) -> Tensor:
    """Extracts the features of up to `KID_PATCHES` patches: (N, 1280) float64."""
    return extract_features(patches[torch.from_numpy(spaced_indices(len(patches), KID_PATCHES))], ImageNetFeatures(), 8)


def _kid(target: Tensor, patches: Tensor, seed: int) -> float:
    """Returns the KID of patches to the target. target: its features."""
    return fid_kid_of_features(target, _kid_features(patches), ImageNetFeatures.space, seed=seed).kid_mean
