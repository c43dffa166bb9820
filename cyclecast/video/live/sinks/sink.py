"""What a live sink is, and what it can do to the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cyclecast.video.live.meter import Meter
from cyclecast.video.live.styling.stream import Feed
from cyclecast.video.live.styling.style_switcher import StyleSwitcher
from cyclecast.video.live.styling.styled_frame import StyledFrame


class Sink(Protocol):
    """Takes pictures, one at a time, in a thread of its own; it may block as long as it likes, and misses what comes meanwhile.

    It is opened in its constructor, in the main thread, with (address, desk), and raises OutputError, EngineUnavailable or
    ConfigError, in one line, if that fails. A failure in `show` ends it, and it alone.
    """

    name: str
    """For people."""
    in_main_thread: bool
    """`show` and `idle` are called by the main thread: what draws windows wants that."""

    def show(self, shown: StyledFrame) -> None:
        """One picture, just handed over."""
        ...

    def idle(self) -> None:
        """Called several times a second while no picture comes."""
        ...

    def close(self) -> None:
        """Finishes what was begun. Called once, in the thread of `show`, after a failure too."""
        ...


class SessionControls(Protocol):
    """What a sink can do to the run, from any thread: what is behind keys and buttons."""

    switcher: StyleSwitcher
    meter: Meter
    feed: Feed
    newest: StyledFrame | None
    """The last styled frame."""

    def snapshot(self) -> Path:
        """Saves the newest picture as a PNG in the current folder. OutputError if there is none yet or it cannot be written."""
        ...

    @property
    def recording(self) -> Path | None:
        """The file that is being recorded because of `set_recording`; None if there is none."""
        ...

    @property
    def skipped(self) -> int:
        """Captured frames that no sink showed because a newer frame replaced them."""
        ...

    def set_recording(self, on: bool) -> Path | None:
        """Starts or stops a recording in the current folder; does nothing if it is already in that state.

        Returns the file that is being recorded, None when off. OutputError if it cannot be written.
        """
        ...

    def quit(self) -> None:
        """Ends the run, as Ctrl-C would."""
        ...

    def report(self, line: str) -> None:
        """Prints a line for the user."""
        ...


SinkOpener = Callable[[str, SessionControls], Sink]
"""Opens a sink: its address as the user gave it, and the run's desk."""
