"""Shows the progress of a run on stderr: in a terminal, a line that changes; elsewhere, as in a log file, a line a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cyclecast.cli.console import console, print_line

if TYPE_CHECKING:
    from cyclecast.training.loop import Progress

FIRST_S, INTERVAL_S = 10.0, 60.0  # seconds to the first line of a log, and from one line to the next
BAR = 16  # columns
MAIN_LOSSES = ("cycle_a", "nce", "paired", "ssim", "style", "generator")  # the line shows the first of these that a recipe has

Report = Callable[["Progress"], None]


@contextmanager
def training_progress(is_shown: bool) -> Iterator[tuple[Report, Callable[[str], None]]]:
    """Yields (report, print_message): one for the progress after each step, one for lines that stay.

    In a terminal, one line of at most its width shows the progress, and the losses stand below it; both disappear at the end.
    is_shown: False in all but the first of several processes.
    """
    if not is_shown or not console.is_terminal or console.is_dumb_terminal:
        yield LogLines(print_line), print_line
        return
    screen = Console(file=console.file, highlight=False, force_terminal=True)  # without soft_wrap: lines end at the width
    with Live(console=screen, transient=True, refresh_per_second=4) as live:
        yield (
            lambda progress: live.update(progress_view(progress)),
            lambda line: screen.print(line, markup=False, soft_wrap=True),
        )


class LogLines:
    """Prints a line after some seconds, and then one a minute. clock: seconds."""

    def __init__(self, print_line: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._print, self._clock = print_line, clock
        self._due = clock() + FIRST_S

    def __call__(self, progress: Progress) -> None:
        """Prints the progress if it is time for a line."""
        now = self._clock()
        if now >= self._due:
            self._due = now + INTERVAL_S
            self._print(progress_line(progress))


def progress_line(progress: Progress) -> str:
    """Returns step, total, time left and one loss, in at most 80 characters."""
    return f"step {progress.step}/{progress.steps}, {format_duration(progress.seconds_left)} left, {main_loss(progress.losses)}"


def progress_view(progress: Progress) -> Group:
    """Returns the line of a terminal, with a bar, and below it the speed and the losses in columns."""
    line = Table.grid(padding=(0, 1))
    for _ in range(4):
        line.add_column(no_wrap=True, overflow="ellipsis")
    line.add_row(
        f"step {progress.step}/{progress.steps}",
        ProgressBar(progress.steps, progress.step, width=BAR),
        f"{format_duration(progress.seconds_left)} left",
        main_loss(progress.losses),
    )
    below = [f"{progress.pairs_per_second:.2f} pairs/s", *(f"{name} {value:.3g}" for name, value in progress.losses.items())]
    return Group(line, Columns([Text(text, style="dim") for text in below], padding=(0, 2)))


def main_loss(losses: Mapping[str, float]) -> str:
    """Returns the most telling loss with its name; an empty text without losses."""
    name = next((name for name in (*MAIN_LOSSES, *losses) if name in losses), None)
    return "" if name is None else f"{name} {losses[name]:.3g}"


def format_duration(seconds: float) -> str:
    """Returns H:MM:SS, rounded up to whole seconds; from a day on, with the number of days."""
    minutes, rest = divmod(int(-(-seconds // 1)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours}:{minutes:02}:{rest:02}" if days else f"{hours}:{minutes:02}:{rest:02}"
