"""One HTML page to show: of a training run, of an experiment. Everything is inside it; it asks the network for nothing."""

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
from cyclecast.training.report import chart
from cyclecast.training.report.chart import number

SMALL = 16 * 1024  # bytes: a PNG up to here needs nothing smaller
WEBP_SIDE = 16383  # pixels, the format's limit
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # no requests
FOLDER = Path(__file__).parent  # of the style sheets and scripts

Cell = str | float | int | None


class Page:
    """Blocks in the order they were added, below a title; every text is escaped."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self.blocks: list[str] = []

    def heading(self, text: str) -> None:
        self.blocks.append(f"<h2>{_inline(text)}</h2>")

    def text(self, text: str) -> None:
        """Paragraphs, parted by empty lines; `code` between backticks."""
        self.blocks += [f"<p>{_inline(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip()]

    def facts(self, facts: Mapping[str, object]) -> None:
        """Key figures, a tile each."""
        self.blocks.append(f'<dl class="facts">{"".join(_fact(name, value) for name, value in facts.items())}</dl>')

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        best: Mapping[str, Literal["low", "high"]] | None = None,
    ) -> None:
        """A row for each of `rows`; columns of numbers are aligned right and written alike.

        best: columns whose lowest or highest number stands out. ValueError if a row is not as long as the header, or `best`
        names no column.
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
        """A picture at `scale` times its size or as wide as the page; a click shows it at its own size.

        image: (H, W, 3) BGR or (H, W) uint8, else ValueError. pixelated: shows each pixel as a square, and keeps it exactly.
        """
        height, width = image.shape[:2]
        shape = f'width="{width}" height="{height}" style="width:{width * scale:g}px" alt="{escape(caption or "picture")}"'
        sharp = ' class="pixelated"' if pixelated else ""
        picture = f'<img{sharp} src="{data_uri(image, pixelated, quality)}" {shape}>'
        below = f"<figcaption>{_inline(caption)}</figcaption>" if caption else ""
        self.blocks.append(f'<figure><button type="button" class="zoom" title="Full size">{picture}</button>{below}</figure>')

    def curves(
        self,
        series: Mapping[str, tuple[ArrayLike, ArrayLike]],
        caption: str = "",
        log: bool = False,
        smooth: bool = True,
        x: str = "step",
        unit: str = "",
    ) -> None:
        """A line chart of name: (steps, values); see `cyclecast.training.report.chart.chart`."""
        self.blocks.append(chart.chart(series, caption, log, smooth, x, unit))

    def details(self, summary: str, content: str | Mapping[str, object]) -> None:
        """Folded away until asked for: a text as it is written, or names and values, such as a config."""
        inside = f"<pre>{escape(content)}</pre>" if isinstance(content, str) else f"<table>{_settings(content)}</table>"
        self.blocks.append(f'<details><summary>{escape(summary)}</summary><div class="scroll">{inside}</div></details>')

    def html(self) -> str:
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
        """Writes the page in place of any that is there, whole or not at all. OutputError if it cannot be written there."""
        with atomic_write(path, overwrite=True) as partial:
            try:
                partial.write_text(self.html(), encoding="utf-8", errors="replace")
            except OSError as error:
                raise write_error(error) from error


@cache
def _assets(*names: str) -> str:
    return "".join((FOLDER / name).read_text("utf-8") for name in names)


def data_uri(image: NDArray[np.uint8], exact: bool = False, quality: int = 90) -> str:
    """(H, W, 3) BGR or (H, W) uint8 -> a PNG if `exact`, small or no larger than a WebP; else that, or a JPEG if huge."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or not image.size:
        raise ValueError(f"got a picture of {image.dtype} {image.shape}; expected uint8 (H, W, 3) or (H, W)")
    height, width = image.shape[:2]
    kind, data = "png", _encoded(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not exact and len(data) > SMALL:
        lossy = "webp" if max(height, width) <= WEBP_SIDE else "jpeg"
        setting = cv2.IMWRITE_WEBP_QUALITY if lossy == "webp" else cv2.IMWRITE_JPEG_QUALITY
        smaller = _encoded(image, f".{lossy}", [setting, quality])
        if len(smaller) < len(data):
            kind, data = lossy, smaller
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(image: NDArray[np.uint8], suffix: str, settings: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, settings)
    if not done:
        raise ValueError(f"a picture of {image.shape} does not fit into a {suffix} file")
    return data.tobytes()


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _fact(name: str, value: object) -> str:
    said = number(value)
    long = ' class="long"' if len(said) > 12 else ""
    return f"<div{long}><dt>{escape(name)}</dt><dd>{escape(said)}</dd></div>"


def _settings(settings: Mapping[str, object], above: str = "") -> str:
    """Rows of name and value; those of a mapping inside are named after it, with a dot."""
    rows = ""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _settings(value, f"{above}{name}.")
        else:
            said = str(value) if isinstance(value, float) else number(value)  # a setting is shown to all its digits
            rows += f'<tr><th scope="row">{escape(f"{above}{name}")}</th><td>{escape(said)}</td></tr>'
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
    """Whether it is a column of numbers, and its cells as HTML."""
    filled = [cell for cell in cells if cell is not None and cell != ""]
    numbers = [float(cell) for cell in filled if isinstance(cell, Real) and not isinstance(cell, bool)]
    finite = [value for value in numbers if np.isfinite(value)]
    numeric = bool(numbers) and len(numbers) == len(filled)
    decimals = _decimals(finite) if numeric else None
    chosen = (min(finite) if best == "low" else max(finite)) if best and finite else None
    html = []
    for cell in cells:
        if isinstance(cell, str) or cell is None:
            html.append(_inline(cell or ""))
            continue
        said = number(cell) if decimals is None or not np.isfinite(cell) else f"{cell:.{decimals}f}"
        html.append(f"<strong>{said}</strong>" if cell == chosen else said)
    return numeric, html


def _decimals(values: Sequence[float]) -> int | None:
    """How many all of them are written with, so that their points align; None if they are whole or too unlike in size."""
    sizes = [abs(value) for value in values if value]
    written = [number(value) for value in values]
    if not sizes or min(sizes) < max(sizes) / 100 or any("e" in text for text in written):
        return None
    needed = max(len(text.partition(".")[2]) for text in written)
    return min(needed, max(0, 3 - int(np.floor(np.log10(max(sizes)))))) or None
