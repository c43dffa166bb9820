"""Text in a frame, over a darkened rectangle, so that it can be read over anything."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from cyclecast.video.frame import Image

WHITE, AMBER, RED = (255, 255, 255), (90, 200, 255), (60, 60, 255)  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX

Row = Sequence[tuple[str, tuple[int, int, int]]]
"""Columns: a text, and its color in BGR."""


def draw_panel(image: Image, rows: Sequence[Row], top: int = 0, corner: bool = False) -> int:
    """Draws rows of text into the image, (H, W, 3) uint8 BGR. Returns the first pixel row below the panel.

    The panel is at the left, below pixel row `top`, or in the lower right corner. Columns are aligned. Text that is too large
    for the image is drawn smaller.
    """
    height, width = (int(side) for side in image.shape[:2])
    scale = min(max(height / 1080, 0.4), 2.0)
    widths = _column_widths(rows, scale)
    line = round(40 * scale)
    gap = margin = line // 2
    total = sum(widths) + gap * (len(widths) - 1) + 2 * margin
    fit = min(1.0, (width - 2 * margin) / total, (height - top - 2 * margin) / (line * (len(rows) + 0.5)))
    if fit < 1:
        scale, line, gap, margin = scale * fit, round(line * fit), round(gap * fit), round(margin * fit)
        widths = _column_widths(rows, scale)
        total = sum(widths) + gap * (len(widths) - 1) + 2 * margin
    panel_height = line * len(rows) + line // 2
    x = width - margin - total if corner else margin
    y = height - margin - panel_height if corner else top + margin // 2 if top else margin
    background = image[y : y + panel_height, x : x + total]
    background[:] = background // 4
    for number, row in enumerate(rows):
        left = x + margin
        baseline = y + line // 4 + round(line * (number + 0.72))
        for (text, color), column_width in zip(row, widths, strict=False):
            cv2.putText(image, text, (left, baseline), FONT, scale, color, max(1, round(1.4 * scale)), cv2.LINE_AA)
            left += column_width + gap
    return y + panel_height


def _column_widths(rows: Sequence[Row], scale: float) -> list[int]:
    """Measures the width of each column in pixels."""
    columns = max(len(row) for row in rows)
    texts = [[row[column][0] for row in rows if column < len(row)] for column in range(columns)]
    return [max(cv2.getTextSize(text, FONT, scale, 1)[0][0] for text in column) for column in texts]
