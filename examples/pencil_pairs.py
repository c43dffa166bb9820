"""Writes pairs for `cyclecast style --pairs`: photos, and OpenCV's pencil sketches of them.

    python examples/pencil_pairs.py photos/ pairs/
    cyclecast style --pairs pairs/before pairs/after -o pencil.onnx

Any program can take OpenCV's place: it only has to write its result under the photo's name and in its size.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

SHORT_SIDE = 720  # pixels: the sketch is learned at the size of common footage


def draw(photo: np.ndarray) -> np.ndarray:
    """Draws an (H, W, 3) uint8 BGR photo in pencil (OpenCV's `pencilSketch`); returns the same shape."""
    gray, _ = cv2.pencilSketch(photo, sigma_s=60, sigma_r=0.07, shade_factor=0.05)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)


def main(photos: Path, pairs: Path) -> None:
    """Writes `pairs/before` and `pairs/after` from the images in `photos`; skips other files."""
    for folder in ("before", "after"):
        (pairs / folder).mkdir(parents=True, exist_ok=True)
    for path in sorted(photos.iterdir()):
        photo = cv2.imread(str(path))
        if photo is None:
            continue
        scale = min(1.0, SHORT_SIDE / min(photo.shape[:2]))
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(pairs / "before" / f"{path.stem}.png"), photo)
        cv2.imwrite(str(pairs / "after" / f"{path.stem}.png"), draw(photo))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
