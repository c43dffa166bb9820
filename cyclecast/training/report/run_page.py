"""The page of a run: numbers, samples through training, loss curves, data and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from cyclecast.training.config import TrainConfig
from cyclecast.training.log import LossLog
from cyclecast.training.report.page import Page


def write_page(
    path: Path,
    config: TrainConfig,
    recipe: str,
    numbers: Mapping[str, object],
    data: Mapping[str, object],
    log: LossLog,
) -> None:
    """Writes a run's page to `path`, completely or not at all. Raises OutputError if it cannot be written."""
    page = Page(config.out.name or recipe, f"A {recipe} run")
    page.facts(numbers)
    for sheet in sorted(config.out.glob("*.jpg")):
        image = cv2.imread(str(sheet))
        if image is not None:
            page.heading(f"The fixed set through training: {sheet.stem}")
            page.image(np.asarray(image, np.uint8))
    curves = log.curves()
    if curves:
        page.heading("Losses")
        for names in group_losses(curves).values():
            page.curves({name: curves[name] for name in names})
        page.text(f"Means over {config.log_every} steps, as logged.")
    page.heading("Data and settings")
    page.facts(data)
    page.details("All settings", {key: "none" if value is None else value for key, value in config.to_dict().items()})
    page.write(path)


def group_losses(names: Iterable[str]) -> dict[str, list[str]]:
    """Groups losses into charts with one scale each: adversarial_ab and adversarial_ba share one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        loss = name.split("_")[0]
        groups.setdefault("adversarial" if loss in ("adversarial", "discriminator", "generator") else loss, []).append(name)
    return groups
