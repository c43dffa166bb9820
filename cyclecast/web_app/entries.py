"""The models of a site: for each one its files, its thumbnail and its entry in `models.json`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclecast.card import MOST_THUMBNAIL, StyleCard, description_from_card
from cyclecast.errors import ConfigError
from cyclecast.export.web import adapt_for_web, check_for_web
from cyclecast.hub.share import draw_thumbnail, read_style_card
from cyclecast.runtime.model import bundled_models, find_model
from cyclecast.runtime.model_file import read_model_file
from cyclecast.video.files.images import read_image
from cyclecast.video.scene import Scene
from cyclecast.video.thumbnail import encode_thumbnail

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
    exist or is not a frame model, and ConfigError for two of one name, a plan, or a model that is not in fp32.
    """
    named: dict[str, Path] = {}
    taken: dict[str, Path] = {}  # in lower case, since some file systems do not distinguish
    for model in models or bundled_models():
        path = find_model(model)
        name = re.sub(r"[^A-Za-z0-9_]+", "-", path.stem).strip("-") or "model"
        if other := taken.get(name.lower()):
            raise ConfigError(f"two models would be named {name} in the site, {other} and {path}; rename one of the files")
        named[name] = taken[name.lower()] = path
    for path in named.values() if models else ():  # the bundled ones are known to run
        check_for_web(path)
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
    card = read_style_card(path, path.read_bytes())
    entry = {
        "name": name,
        "title": re.sub("[-_]+", " ", name).capitalize() if card.title == path.stem else card.title,
        "license": card.license,
        **({"author": card.author} if card.author else {}),
        "about": description_from_card(card.text),
        "thumbnail": f"models/{name}.jpg",
        "size": web.spec.size,
        "files": described,
    }
    return SiteModel(entry, {**files, f"models/{name}.jpg": _thumbnail(path, card)}, web.psnr_db)


def _thumbnail(path: Path, card: StyleCard) -> bytes:
    """Returns a JPEG of a frame before and after: that of the model's file, the bundled sample, or of the demo's scene."""
    sample = path.with_suffix(".jpg")
    if path in bundled_models().values() and sample.is_file():
        return encode_thumbnail([read_image(sample)], MOST_THUMBNAIL)
    return card.thumbnail or draw_thumbnail(read_model_file(path))
