"""One HTML page to show: of a training run, of an experiment. Everything is inside it; it asks the network for nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from numbers import Real
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclecast._version import __version__
from cyclecast.files import atomic_write, write_error
from cyclecast.training import chart
from cyclecast.training.chart import number

SMALL = 16 * 1024  # bytes: a PNG up to here needs nothing smaller
WEBP_SIDE = 16383  # pixels, the format's most

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
        """A line chart of name: (steps, values); see `cyclecast.training.chart.chart`."""
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
            f"<style>{STYLE}{chart.STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{_inline(self.title)}</h1>{subtitle}</header>\n<main>\n{blocks}\n</main>\n"
            f"<footer>cyclecast {__version__}, {date.today().isoformat()}</footer>\n"
            f'<dialog id="full"></dialog>\n<script>{SCRIPT}{chart.SCRIPT}</script>\n</body>\n</html>\n'
        )

    def write(self, path: Path) -> None:
        """Writes the page in place of any that is there, whole or not at all. OutputError if it cannot be written there."""
        with atomic_write(path, overwrite=True) as partial:
            try:
                partial.write_text(self.html(), encoding="utf-8", errors="replace")
            except OSError as error:
                raise write_error(error) from error


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


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # nothing from outside

STYLE = """
:root{--ground:#fff;--ink:#1b1f24;--muted:#667080;--line:#e3e6ea;--panel:#f4f5f7;--accent:#0072b2}
@media screen and (prefers-color-scheme:dark){
:root{--ground:#14171b;--ink:#e7e9ec;--muted:#98a1ac;--line:#2c323a;--panel:#1e2228;--accent:#4ba6e8}}
*{box-sizing:border-box}
[hidden]{display:none!important}
html{background:var(--ground);color:var(--ink);-webkit-text-size-adjust:100%}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;max-width:62rem;margin:0 auto;
padding:clamp(1.25rem,4vw,3rem) clamp(1rem,4vw,2rem) 2rem;overflow-wrap:break-word}
h1{font-size:clamp(1.6rem,4vw,2.1rem);line-height:1.2;letter-spacing:-.015em;margin:0}
h2{font-size:1.25rem;line-height:1.3;letter-spacing:-.01em;margin:2.8rem 0 .8rem;
padding-top:1.1rem;border-top:1px solid var(--line)}
p{max-width:44rem;margin:.7rem 0}
.subtitle{color:var(--muted);font-size:1.05rem;margin:.35rem 0 0}
header{margin-bottom:1.6rem}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em}
code{background:var(--panel);border-radius:4px;padding:.1em .3em}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.6rem;margin:1.2rem 0}
.facts div{background:var(--panel);border-radius:8px;padding:.65rem .85rem;min-width:0}
.facts .long{grid-column:span 2}
.facts dt{color:var(--muted);font-size:.8rem;line-height:1.3}
.facts dd{margin:.15rem 0 0;font-size:1.25rem;font-weight:600;line-height:1.3;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.facts .long dd{font-size:1rem}
.scroll{overflow-x:auto;margin:1.2rem 0}
table{border-collapse:collapse;font-size:.92rem}
caption{caption-side:bottom;text-align:left;color:var(--muted);font-size:.88rem;padding-top:.5rem}
th,td{text-align:left;vertical-align:baseline;padding:.42rem 1.1rem .42rem 0;border-bottom:1px solid var(--line)}
th:not(:first-child),td:not(:first-child){padding-left:1.1rem}
th:last-child,td:last-child{padding-right:.3rem}
thead th{font-size:.82rem;color:var(--muted);font-weight:600;border-bottom-color:var(--muted)}
th[scope=row]{font-weight:400;color:var(--muted)}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td strong{color:var(--accent)}
figure{margin:1.6rem 0;break-inside:avoid}
figcaption{color:var(--muted);font-size:.88rem;margin-top:.5rem;max-width:44rem}
.zoom{display:block;max-width:100%;padding:0;border:0;background:none;cursor:zoom-in}
img{display:block;max-width:100%;height:auto}
.zoom img{border-radius:4px}
.pixelated{image-rendering:pixelated}
dialog{margin:auto;padding:0;border:0;background:none;max-width:100vw;max-height:100vh;overflow:auto;cursor:zoom-out}
dialog::backdrop{background:rgb(0 0 0/.85)}
dialog img{max-width:none}
details{border:1px solid var(--line);border-radius:8px;padding:.6rem .9rem;margin:1.2rem 0}
summary{cursor:pointer;font-weight:600}
details .scroll{margin:.6rem 0 .2rem}
pre{margin:0;line-height:1.5}
footer{color:var(--muted);font-size:.82rem;margin-top:3rem;padding-top:.9rem;border-top:1px solid var(--line)}
@media (max-width:40rem){th,td{padding-right:.55rem}th:not(:first-child),td:not(:first-child){padding-left:.55rem}
tbody :first-child:not(.number){min-width:6.5rem}}
@page{margin:16mm}
@media print{body{max-width:none;padding:0;font-size:11pt}
.facts div,code,pre{print-color-adjust:exact;-webkit-print-color-adjust:exact}
h2{break-after:avoid}tr,.facts{break-inside:avoid}.plot{height:7cm}dialog{display:none}}
"""

SCRIPT = """
const full = document.getElementById('full')
for (const button of document.querySelectorAll('.zoom')) button.onclick = () => {
  const picture = button.firstElementChild.cloneNode()
  picture.style.width = Math.max(picture.getAttribute('width'), button.firstElementChild.clientWidth) + 'px'
  full.replaceChildren(picture)
  full.showModal()
}
full.onclick = () => full.close()
"""
