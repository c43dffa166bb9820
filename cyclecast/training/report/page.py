"""Builds the HTML page of a run or an experiment: one file without links, so that it can be shared and needs no network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from html import escape
from numbers import Real
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclecast._version import __version__
from cyclecast.files import atomic_write, write_error
from cyclecast.training.report.chart import format_number, line_chart

MAX_PNG_BYTES = 16 * 1024  # larger images are compressed lossily, unless they must be exact
MAX_WEBP_SIDE = 16383  # pixels, the format's limit
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # no requests
ASSETS = Path(__file__).parent  # folder of the style sheets and scripts

Cell = str | float | int | None


class Page:
    """A title and blocks of HTML. Each method adds one block; all text is escaped."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self.blocks: list[str] = []

    def heading(self, text: str) -> None:
        """Adds a heading."""
        self.blocks.append(f"<h2>{_inline(text)}</h2>")

    def text(self, text: str) -> None:
        """Adds paragraphs, which empty lines separate; text between backticks is shown as code."""
        self.blocks += [f"<p>{_inline(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip()]

    def facts(self, facts: Mapping[str, object]) -> None:
        """Adds key figures, each in a tile."""
        self.blocks.append(f'<dl class="facts">{"".join(_fact(name, value) for name, value in facts.items())}</dl>')

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        best: Mapping[str, Literal["low", "high"]] | None = None,
    ) -> None:
        """Adds a table. The numbers of a column are aligned right, with the same number of decimals.

        best: columns whose lowest or highest number is highlighted. Raises ValueError if a row does not have as many cells as
        the header, or `best` names a column that does not exist.
        """
        self.blocks.append(_table(header, rows, caption, best or {}))

    def image(
        self,
        image: NDArray[np.uint8],
        caption: str = "",
        pixelated: bool = False,
        scale: float = 1.0,
        quality: int = 90,
    ) -> None:
        """Adds an image at `scale` times its size, at most as wide as the page; a click shows it at its own size.

        image: (H, W, 3) BGR or (H, W) uint8, otherwise ValueError. pixelated: shows each pixel as a square and keeps it exactly.
        quality: of lossy compression, 0 to 100.
        """
        height, width = image.shape[:2]
        shape = f'width="{width}" height="{height}" style="width:{width * scale:g}px" alt="{escape(caption or "image")}"'
        sharp = ' class="pixelated"' if pixelated else ""
        tag = f'<img{sharp} src="{data_uri(image, pixelated, quality)}" {shape}>'
        below = f"<figcaption>{_inline(caption)}</figcaption>" if caption else ""
        self.blocks.append(f'<figure><button type="button" class="zoom" title="Full size">{tag}</button>{below}</figure>')

    def curves(
        self,
        series: Mapping[str, tuple[ArrayLike, ArrayLike]],
        caption: str = "",
        log: bool = False,
        smooth: bool = True,
        x: str = "step",
        unit: str = "",
    ) -> None:
        """Adds a line chart of name: (steps, values); see `line_chart`."""
        self.blocks.append(line_chart(series, caption, log, smooth, x, unit))

    def details(self, summary: str, content: str | Mapping[str, object]) -> None:
        """Adds a section that is folded at first: plain text, or a table of names and values, such as a config."""
        inside = f"<pre>{escape(content)}</pre>" if isinstance(content, str) else f"<table>{_setting_rows(content)}</table>"
        self.blocks.append(f'<details><summary>{escape(summary)}</summary><div class="scroll">{inside}</div></details>')

    def html(self) -> str:
        """Returns the page."""
        subtitle = f'<p class="subtitle">{_inline(self.subtitle)}</p>' if self.subtitle else ""
        blocks = "\n".join(self.blocks)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(self.title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="color-scheme" content="light dark">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<link rel="icon" href="data:,">\n'
            f"<style>{_assets('page.css', 'chart.css')}</style>\n</head>\n<body>\n"
            f"<header><h1>{_inline(self.title)}</h1>{subtitle}</header>\n<main>\n{blocks}\n</main>\n"
            f"<footer>cyclecast {__version__}, {date.today().isoformat()}</footer>\n"
            f'<dialog id="full"></dialog>\n<script>{_assets("page.js", "chart.js")}</script>\n</body>\n</html>\n'
        )

    def write(self, path: Path) -> None:
        """Writes the page completely or not at all, and replaces an older one. Raises OutputError if it cannot be written."""
        with atomic_write(path, overwrite=True) as partial:
            try:
                partial.write_text(self.html(), encoding="utf-8", errors="replace")
            except OSError as error:
                raise write_error(error) from error


@cache
def _assets(*names: str) -> str:
    return "".join((ASSETS / name).read_text("utf-8") for name in names)


def data_uri(image: NDArray[np.uint8], exact: bool = False, quality: int = 90) -> str:
    """Returns (H, W, 3) BGR or (H, W) uint8 as a data URI: PNG if `exact`, otherwise PNG or WebP, whichever is smaller.

    Small images are always PNG; images too large for WebP are JPEG instead of it. quality: of WebP and JPEG, 0 to 100.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or not image.size:
        raise ValueError(f"got an image of {image.dtype} {image.shape}; expected uint8 (H, W, 3) or (H, W)")
    height, width = image.shape[:2]
    name, data = "png", _encode(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not exact and len(data) > MAX_PNG_BYTES:
        lossy_name = "webp" if max(height, width) <= MAX_WEBP_SIDE else "jpeg"
        setting = cv2.IMWRITE_WEBP_QUALITY if lossy_name == "webp" else cv2.IMWRITE_JPEG_QUALITY
        lossy_data = _encode(image, f".{lossy_name}", [setting, quality])
        if len(lossy_data) < len(data):
            name, data = lossy_name, lossy_data
    return f"data:image/{name};base64,{base64.b64encode(data).decode()}"


def _encode(image: NDArray[np.uint8], suffix: str, settings: list[int]) -> bytes:
    succeeded, data = cv2.imencode(suffix, image, settings)
    if not succeeded:
        raise ValueError(f"an image of {image.shape} does not fit into a {suffix} file")
    return data.tobytes()


def _inline(text: str) -> str:
    """Escapes a text and turns backticks into `code` tags."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _fact(name: str, value: object) -> str:
    text = format_number(value)
    long = ' class="long"' if len(text) > 12 else ""
    return f"<div{long}><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"


def _setting_rows(settings: Mapping[str, object], prefix: str = "") -> str:
    """Returns table rows of name and value; the names of a nested mapping are joined to its own name by a dot."""
    rows = ""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _setting_rows(value, f"{prefix}{name}.")
        else:
            text = str(value) if isinstance(value, float) else format_number(value)  # settings are shown with all digits
            rows += f'<tr><th scope="row">{escape(f"{prefix}{name}")}</th><td>{escape(text)}</td></tr>'
    return rows


def _table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str, best: Mapping[str, Literal["low", "high"]]
) -> str:
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells below {len(header)} columns: {list(row)}")
    if unknown := set(best) - set(header):
        raise ValueError(f"no column is called {', '.join(sorted(unknown))}; they are {', '.join(header)}")
    columns = [_column([row[index] for row in rows], best.get(name)) for index, name in enumerate(header)]
    marks = [' class="number"' if numeric else "" for numeric, _ in columns]
    heads = "".join(f'<th scope="col"{mark}>{_inline(name)}</th>' for mark, name in zip(marks, header, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{mark}>{cells[index]}</td>' for mark, (_, cells) in zip(marks, columns, strict=True))}</tr>"
        for index in range(len(rows))
    )
    above = f"<caption>{_inline(caption)}</caption>" if caption else ""
    return f'<div class="scroll" tabindex="0"><table>{above}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _column(cells: Sequence[Cell], best: Literal["low", "high"] | None) -> tuple[bool, list[str]]:
    """Returns whether a column holds only numbers, and its cells as HTML."""
    filled = [cell for cell in cells if cell is not None and cell != ""]
    numbers = [float(cell) for cell in filled if isinstance(cell, Real) and not isinstance(cell, bool)]
    finite = [value for value in numbers if np.isfinite(value)]
    numeric = bool(numbers) and len(numbers) == len(filled)
    decimals = _shared_decimals(finite) if numeric else None
    best_value = (min(finite) if best == "low" else max(finite)) if best and finite else None
    html = []
    for cell in cells:
        if isinstance(cell, str) or cell is None:
            html.append(_inline(cell or ""))
            continue
        text = format_number(cell) if decimals is None or not np.isfinite(cell) else f"{cell:.{decimals}f}"
        html.append(f"<strong>{text}</strong>" if cell == best_value else text)
    return numeric, html


def _shared_decimals(values: Sequence[float]) -> int | None:
    """Returns the number of decimals for a column, so that its points align; None for integers and very different sizes."""
    sizes = [abs(value) for value in values if value]
    texts = [format_number(value) for value in values]
    if not sizes or min(sizes) < max(sizes) / 100 or any("e" in text for text in texts):
        return None
    needed = max(len(text.partition(".")[2]) for text in texts)
    return min(needed, max(0, 3 - int(np.floor(np.log10(max(sizes)))))) or None
