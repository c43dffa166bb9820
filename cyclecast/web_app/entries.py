"""The models of a site: for each one its files, its thumbnail and its entry in `models.json`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import cyclecast
from cyclecast.errors import ConfigError
from cyclecast.export.agreement import center_crop_resize
from cyclecast.export.web import adapt_for_web
from cyclecast.model_card import author_from_card, description_from_card, license_from_card
from cyclecast.runtime.model import bundled_models, find_model
from cyclecast.video.files.images import read_image
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

THUMBNAIL_SIZE = (960, 270)  # (width, height): a frame of the demo's scene on the left, and styled on the right
MOST_THUMBNAIL_BYTES = 50_000
SCENE_SIZE = (640, 360)  # (width, height)
SCENE_SECONDS = (0.0, 2.0)  # the scene's frames on which models are compared


@dataclass(frozen=True)
class SiteModel:
    """One model of a site."""

    entry: dict[str, Any]
    """Its object in `models.json`."""
    files: dict[str, bytes]
    """Path in the site -> content."""
    psnr_db: float | None
    """Of fp16 against fp32; infinite if the outputs are equal, None without fp16."""


def name_models(models: Sequence[str]) -> dict[str, Path]:
    """Returns name in the site -> ONNX file. models: names or paths; none: the bundled models.

    Names have letters of ASCII, digits, - and _, since they are parts of addresses. Raises ModelError for a model that does not
    exist, and ConfigError for two of one name.
    """
    named: dict[str, Path] = {}
    taken: dict[str, Path] = {}  # in lower case, since some file systems do not distinguish
    for model in models or bundled_models():
        path = find_model(model)
        name = re.sub(r"[^A-Za-z0-9_]+", "-", path.stem).strip("-") or "model"
        if other := taken.get(name.lower()):
            raise ConfigError(f"two models would be named {name} in the site, {other} and {path}; rename one of the files")
        named[name] = taken[name.lower()] = path
    return named


def build_model(name: str, path: Path, precisions: Sequence[str], on_message: Callable[[str], None] | None = None) -> SiteModel:
    """Adapts a model for browsers and draws its thumbnail. precisions, on_message and errors: see `adapt_for_web`."""
    scene = Scene(*SCENE_SIZE)
    web = adapt_for_web(path, [scene.draw(seconds) for seconds in SCENE_SECONDS], precisions, on_message)
    files = {
        f"models/{name}.onnx" if precision == "fp32" else f"models/{name}.{precision}.onnx": content
        for precision, content in web.files.items()
    }
    described = {
        precision: {"path": file, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for precision, (file, content) in zip(web.files, files.items(), strict=True)
    }
    card_path = path.with_suffix(".md")
    card = card_path.read_text("utf-8", "replace") if card_path.is_file() else ""
    author = author_from_card(card)
    entry = {
        "name": name,
        "title": name.replace("-", " ").replace("_", " ").capitalize(),
        "license": license_from_card(card) or "",
        **({"author": author} if author else {}),
        "about": description_from_card(card),
        "thumbnail": f"models/{name}.jpg",
        "size": web.spec.size,
        "files": described,
    }
    return SiteModel(entry, {**files, f"models/{name}.jpg": _thumbnail(path)}, web.psnr_db)


def _thumbnail(path: Path) -> bytes:
    """Returns a JPEG of `THUMBNAIL_SIZE`: of the bundled sample, or else of the scene and the model's output."""
    sample = path.with_suffix(".jpg")
    if path in bundled_models().values() and sample.is_file():
        return _encode(read_image(sample))
    with cyclecast.load(path) as model:
        width, height = model.frame_sizes[0] if model.frame_sizes else SCENE_SIZE
        frame = center_crop_resize(Scene(*SCENE_SIZE).draw(SCENE_SECONDS[-1]), width, height)
        sides = (frame, model(frame))
    half = (THUMBNAIL_SIZE[0] // 2, THUMBNAIL_SIZE[1])
    return _encode(np.concatenate([center_crop_resize(side, *half) for side in sides], axis=1))


def _encode(image: Image) -> bytes:
    """Encodes (H, W, 3) uint8 BGR as a JPEG of `THUMBNAIL_SIZE`, at the best quality that fits `MOST_THUMBNAIL_BYTES`."""
    small = cv2.resize(image, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    for quality in range(90, 10, -10):
        content: bytes = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(content) <= MOST_THUMBNAIL_BYTES:
            break
    return content
