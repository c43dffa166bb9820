"""What a live sink is, and what it can do to the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from cyclecast.errors import OutputError
from cyclecast.video.live.control_queue import ControlQueue
from cyclecast.video.live.meter import Meter
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.styling.stream import Feed
from cyclecast.video.live.styling.style_switcher import StyleSwitcher
from cyclecast.video.live.styling.styled_frame import StyledFrame


class MissingSink(OutputError):
    """A device, a display or a folder is missing or in use. If other sinks work, the run continues without this one."""


class Sink(Protocol):
    """Takes frames, one at a time, in a thread of its own. It may block for as long as it likes, and skips frames meanwhile.

    Its constructor opens it, in the main thread, from an address and the `SessionControls`; if that fails it raises MissingSink,
    another OutputError, or ConfigError, in one line. An exception in `show` ends this sink, not the others.
    """

    name: str
    """For messages."""

    def show(self, frame: StyledFrame) -> None:
        """Takes one frame."""
        ...

    def idle(self) -> None:
        """Does what is due while no frame comes. Called several times a second."""
        ...

    def close(self) -> None:
        """Finishes the output. Called once, in the thread of `show`, also after a failure."""
        ...


@dataclass
class OutputState:
    """The state of a network output."""

    name: str
    """Without secrets."""
    is_connected: bool = False
    sent: int = 0
    """Frames that were handed to the network."""
    dropped: int = 0
    """Frames that were not sent, because the network was too slow or the server was gone."""
    reconnects: int = 0
    """Times that a lost server came back."""


@runtime_checkable
class NetworkSink(Protocol):
    """A sink that sends frames over a network."""

    output: OutputState


class SessionControls(Protocol):
    """What a sink can do to the run, from any thread: the actions behind keys and buttons."""

    switcher: StyleSwitcher
    meter: Meter
    feed: Feed
    newest: StyledFrame | None
    """The last styled frame."""
    sound: SoundFeed
    """The sound of the run, for recordings and network outputs; silent if there is none."""
    queue: ControlQueue
    """What keys, buttons and programs change goes through it."""

    @property
    def recording(self) -> Path | None:
        """The file that `set_recording` records to; None while it is off."""
        ...

    @property
    def last_snapshot(self) -> Path | None:
        """The file of the last snapshot; None if there is none."""
        ...

    @property
    def failures(self) -> list[str]:
        """Returns a line for each sink of this run that is missing or has failed, a recording included."""
        ...

    @property
    def outputs(self) -> Sequence[OutputState]:
        """The state of each network output of this run that has not failed."""
        ...

    @property
    def skipped(self) -> int:
        """Captured frames that no sink took, because a newer one replaced them."""
        ...

    def snapshot(self) -> Path:
        """Saves the newest frame as a PNG in the current folder; the same frame twice is one file.

        Raises OutputError if there is no frame or it cannot be written.
        """
        ...

    def set_recording(self, on: bool) -> Path | None:
        """Starts or stops a recording in the current folder. Does nothing if it already is in that state.

        Returns the file that is being recorded, None when off. Raises OutputError if it cannot be written.
        """
        ...

    def has_sink(self, address: str) -> bool:
        """Returns whether `set_sink` has turned this sink on and it works."""
        ...

    def set_sink(self, address: str, on: bool) -> None:
        """Turns a sink on or off. Does nothing if it already is in that state. Raises OutputError if it cannot be opened."""
        ...

    def quit(self) -> None:
        """Ends the run, as Ctrl-C would."""
        ...

    def report(self, line: str) -> None:
        """Prints a line for the user."""
        ...


def sink_name(address: str) -> str:
    """Returns the part of an address before :// or ?: web of web://0.0.0.0:8080 and of web?token=SECRET."""
    return address.partition("://")[0].partition("?")[0]


SinkOpener = Callable[[str, SessionControls], Sink]
"""Opens a sink from its address, as the user typed it, and the controls of the run."""
