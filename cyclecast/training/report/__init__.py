"""Shows results to people: pages of runs and experiments, charts, sample sheets."""

from __future__ import annotations

from cyclecast.training.report.page import Page
from cyclecast.training.report.run_page import write_page
from cyclecast.training.report.schedule import SheetSchedule
from cyclecast.training.report.sheets import add_caption, load_strips, strip, tile, write_sheet

__all__ = ["Page", "SheetSchedule", "add_caption", "strip", "load_strips", "tile", "write_page", "write_sheet"]
