"""Writes what comes with a finished style: figures on held-out pairs, a sheet of the user's own footage, a card."""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cyclecast._version import __version__
from cyclecast.card import MOST_THUMBNAIL, StyleCard
from cyclecast.files import atomic_write
from cyclecast.runtime.bench import psnr_db, times_ms
from cyclecast.runtime.onnx_properties import add_card
from cyclecast.style.crops import PairFolders
from cyclecast.style.looks import Look, StyleImages
from cyclecast.style.options import StyleOptions
from cyclecast.style.plan import Plan, format_minutes
from cyclecast.training.evaluate.flicker import structure_kept
from cyclecast.video.files.images import read_image, write_image
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene
from cyclecast.video.thumbnail import encode_thumbnail

SHEET_HEIGHT = 320  # pixels of each row of a sheet
TIMED_FRAMES = 12


@dataclass(frozen=True)
class Figures:
    """How good and how fast the model is."""

    ms_per_frame: float
    """Median milliseconds for a frame of 1280x720 on this machine."""
    psnr_db: float | None = None
    """PSNR against the target, on the pairs that were held out. None: there are no such pairs."""
    psnr_db_of_the_source: float | None = None
    """PSNR of the source against the target: the score of doing nothing."""
    psnr_db_of_the_mean: float | None = None
    """PSNR of an image of the targets' mean color."""
    ssim: float | None = None
    """SSIM of the luma against the target, on the same pairs."""
    ssim_of_the_source: float | None = None


def measure(model: Callable[[Image], Image], held_out: PairFolders) -> Figures:
    """Times the model, and compares it with the targets of held-out pairs if there are any."""
    frames = [frame.image for frame in Scene(1280, 720, seconds=1, rate=3)]
    for frame in frames:
        model(frame)  # warms up
    ms = round(statistics.median(times_ms(model, frames, TIMED_FRAMES)), 1)
    names = sorted(path.name for path in held_out.after.glob("*.png"))
    if not names:
        return Figures(ms)
    before = [read_image(held_out.before / name) for name in names]
    after = [read_image(held_out.after / name) for name in names]
    styled = [model(image) for image in before]
    color = np.mean([image.mean((0, 1)) for image in after], axis=0).round().astype(np.uint8)
    return Figures(
        ms,
        psnr_db=psnr_db(after, styled),
        psnr_db_of_the_source=psnr_db(after, before),
        psnr_db_of_the_mean=psnr_db(after, [np.broadcast_to(color, image.shape) for image in after]),
        ssim=statistics.fmean(map(structure_kept, after, styled)),
        ssim_of_the_source=statistics.fmean(map(structure_kept, after, before)),
    )


def write_sheet(path: Path, frames: Sequence[Image], model: Callable[[Image], Image]) -> None:
    """Writes one row for each frame: the frame, and the model's output for it."""
    rows = [np.concatenate([_resize_to_row(frame), _resize_to_row(model(frame))], axis=1) for frame in frames]
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([cv2.copyMakeBorder(row, 0, 4, 0, width - row.shape[1], cv2.BORDER_CONSTANT) for row in rows])
    with atomic_write(path, overwrite=True) as partial:
        write_image(partial, sheet)


def _resize_to_row(image: Image) -> Image:
    width = round(image.shape[1] * SHEET_HEIGHT / image.shape[0])
    return np.asarray(cv2.resize(image, (width, SHEET_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def write_card(path: Path, look: Look, plan: Plan, recipe: str, options: StyleOptions, figures: Figures) -> StyleCard:
    """Writes the card of the model, in Markdown, and returns its facts. It is published, so it names files without folders."""
    name, strength = path.stem, options.strength
    sources, footage = (", ".join(Path(each).name for each in plan.request[key]) for key in ("look", "footage"))
    rows = {
        "learned from": f"{look} ({sources})",
        "footage": f"{footage or 'the pairs'}; {plan.frames or plan.pairs} images",
        "recipe": f"`{recipe}`, {plan.steps} steps, seed {plan.request['seed']}, preset `{plan.request['preset']}`",
        "strength": f"{strength:g}",
        "time": format_minutes(sum(plan.seconds.values())),
        "speed": f"{figures.ms_per_frame} ms for a frame of 1280x720 on the machine that trained it",
    }
    rows |= {key: value for key, value in (("author", options.author), ("license", options.license)) if value}
    if figures.psnr_db is not None:
        rows["on pairs not learned from"] = (
            f"{figures.psnr_db:.1f} dB PSNR, SSIM {figures.ssim:.2f} (the source itself: {figures.psnr_db_of_the_source:.1f} dB, "
            f"SSIM {figures.ssim_of_the_source:.2f}; the mean color: {figures.psnr_db_of_the_mean:.1f} dB)"
        )
    with atomic_write(path, overwrite=True) as partial:
        partial.write_text(_card_text(name, look, rows), "utf-8")
    lasting = {key: value for key, value in rows.items() if key not in ("time", "speed")}  # equal runs write equal models
    return StyleCard(
        title=name,
        author=options.author,
        license=options.license,
        learned_from=rows["learned from"],
        text=_card_text(name, look, lasting),
    )


def _card_text(name: str, look: Look, rows: dict[str, str]) -> str:
    table = "\n".join(f"| {key} | {value.replace('|', '&#124;')} |" for key, value in rows.items())
    rights = "style images" if isinstance(look, StyleImages) else "targets"
    return (
        f"# {name}\n\nPaints video frames {look.manner}.\n\n![Before and after](<{name}.jpg>)\n\n| | |\n|---|---|\n{table}\n\n"
        f"Whether the model may be published depends on the rights in the {rights} and the footage.\n\n"
        f"Made by cyclecast {__version__}. Run it: `cyclecast live 0 --model {shlex.quote(f'{name}.onnx')}`\n"
    )


def write_properties(model: Path, card: StyleCard, frame: Image, styled: Image) -> None:
    """Adds the card, with a thumbnail of a frame before and after, to the metadata of a frame model."""
    card = dataclasses.replace(card, height=min(frame.shape[:2]), thumbnail=encode_thumbnail([frame, styled], MOST_THUMBNAIL))
    content = add_card(model, model.read_bytes(), card)
    with atomic_write(model, overwrite=True) as partial:
        partial.write_bytes(content)
