"""What a remote is: a connection to a program outside, which lives as long as the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cyclecast.video.live.sinks.sink import SessionControls


class Remote(Protocol):
    """Works in a thread of its own, from its creation on. Whatever happens to its connection, the run goes on."""

    def close(self) -> None:
        """Ends the connection and the thread."""
        ...


RemoteOpener = Callable[[SessionControls], Remote]
"""Opens a remote for a run. Raises OutputError in one line if that fails."""
