"""Renders the images of the README: docs/cyclecast.webp (the demo's lake in three looks) and docs/gallery.jpg (all looks).

    python docs/animation.py

Each look's frames replace those of the one before it from left to right. The animation starts and ends with the source.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import cyclecast
from cyclecast.runtime.model import bundled_models
from cyclecast.video.scene import Scene

OUTPUT = Path(__file__).parent / "cyclecast.webp"
GALLERY = Path(__file__).parent / "gallery.jpg"
SIZE = (560, 315)
RATE = 15  # frames per second of the animation
HOLD, WIPE = 9, 7  # frames for which a style stays, and in which the next one replaces it
QUALITY = 78
LABELS = ("source", "starry-night", "monet", "pencil")


def draw_label(image: np.ndarray, text: str) -> np.ndarray:
    """Returns a copy of the image with `text` in its lower left corner."""
    image = image.copy()
    for offset, color in ((1, (0, 0, 0)), (0, (255, 255, 255))):  # a shadow, then the text
        where = (10 + offset, SIZE[1] - 12 + offset)
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, 2, cv2.LINE_AA)
    return image


def main() -> None:
    """Styles the frames, joins them, and writes both files."""
    scene = Scene(960, 540, seconds=4)
    step = HOLD + WIPE
    count = step * len(LABELS)
    models = {name: cyclecast.load(name) for name in LABELS[1:]}
    frames = []
    for index in range(count):
        source = scene.draw(index / RATE)
        part, offset = divmod(index, step)
        names = LABELS[part], LABELS[(part + 1) % len(LABELS)]
        share = max(0, offset - HOLD + 1) / (WIPE + 1)
        images = []
        for name in names:
            styled = source if name == "source" else models[name](source)
            images.append(draw_label(cv2.resize(styled, SIZE, interpolation=cv2.INTER_AREA), name))
        image, following = images
        edge = round(share * SIZE[0])
        if edge:
            image[:, :edge] = following[:, :edge]
            image[:, max(0, edge - 1) : edge + 1] = 255
        frames.append(Image.fromarray(image[..., ::-1]))
    frames[0].save(OUTPUT, save_all=True, append_images=frames[1:], duration=1000 // RATE, loop=0, quality=QUALITY, method=6)
    print(f"{OUTPUT}: {count} frames, {OUTPUT.stat().st_size / 1e6:.2f} MB")
    for model in models.values():
        model.close()
    draw_gallery(scene.draw(1.0))


def draw_gallery(source: np.ndarray) -> None:
    """Writes a frame and the output of every bundled look for it, three in a row."""
    tiles = [draw_label(cv2.resize(source, SIZE, interpolation=cv2.INTER_AREA), "source")]
    for name in bundled_models():
        with cyclecast.load(name) as model:
            tiles.append(draw_label(cv2.resize(model(source), SIZE, interpolation=cv2.INTER_AREA), name))
    rows = [np.concatenate(tiles[start : start + 3], axis=1) for start in range(0, len(tiles), 3)]
    cv2.imwrite(str(GALLERY), np.concatenate(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{GALLERY}: {len(tiles)} tiles, {GALLERY.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
