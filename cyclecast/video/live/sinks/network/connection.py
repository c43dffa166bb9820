"""One connection of a network output: a process that encodes and sends, and the shared memory through which it gets frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from cyclecast.isolated import last_line
from cyclecast.video.frame import Image
from cyclecast.video.live.message_process import MessageProcess
from cyclecast.video.live.sinks.network.process import main
from cyclecast.video.live.slots import SlotWriter, bytes_needed, create_memory
from cyclecast.video.live.sound.feed import SoundReader
from cyclecast.video.resize import letterbox

CONNECT_TIMEOUT_S = 15.0  # to start the process, to open the encoder, and for the server's answers
SEND_TIMEOUT_S = 10.0  # for one frame, after which the network counts as gone
FINISH_TIMEOUT_S = 3.0  # to say goodbye to the server
EXIT_TIMEOUT_S = 2.0  # that a killed process may take to end


class Connection:
    """Starts a process that connects. `write` never waits for the network. Raises OSError if there is no room for its frames.

    request: for `process.serve`, without size and memory. size: width and height of the video. redact: removes secrets from a
    line.
    """

    def __init__(self, request: dict[str, Any], size: tuple[int, int], redact: Callable[[str], str]) -> None:
        self.size = size
        self.sent = 0
        """Frames that are on their way to the server."""
        self.is_open = False
        """The server has accepted the connection."""
        self.failure: str | None = None
        """Why there is no connection any more, in one line without secrets."""
        self.is_final = False
        """Another try is useless."""
        self._redact = redact
        self._number = 0
        self._heard = time.perf_counter()
        self._is_linked = True  # the memory still has a name
        self._memory: SharedMemory = create_memory(bytes_needed(*size))
        self._slots = SlotWriter(self._memory, *size)
        try:
            self._process = MessageProcess(main, "output", redact)
        except OSError:
            self._release_memory()
            raise
        self._process.send(request | {"memory": self._memory.name, "size": size})
        self._reader = threading.Thread(target=self._read, name="output-messages", daemon=True)
        self._reader.start()

    def write(self, image: Image, at: float, sound: SoundReader | None) -> bool:
        """Hands a frame and the sound before it to the process.

        Returns False if there is no connection, or if the network is too slow for this frame; the sound then waits.
        """
        if not self.is_open or self.failure is not None:
            return False
        if self._number == self.sent:  # nothing is on its way: the time counts from now
            self._heard = time.perf_counter()
        slot = self._slots.write(letterbox(image, self.size), self._number + 1)
        if slot is None:
            return False
        self._number += 1
        for chunk in sound.read(at) if sound is not None else ():
            self._process.send(chunk.message())
        self._process.send({"frame": self._number, "slot": slot, "at": at})
        return True

    def check(self) -> None:
        """Ends a process that is silent for too long."""
        limit = SEND_TIMEOUT_S if self.is_open else CONNECT_TIMEOUT_S
        is_waiting = not self.is_open or self._number > self.sent
        if self.failure is None and is_waiting and time.perf_counter() - self._heard > limit:
            self.failure = f"the server takes no frames for {limit:g} s" if self.is_open else f"no answer within {limit:g} s"
            self._process.kill()

    def _read(self) -> None:
        """Handles what the process sends, until it ends; runs in a thread of its own."""
        reason = ""
        try:
            for message in self._process.messages():
                self._heard = time.perf_counter()
                if "open" in message:
                    self._unlink_memory()
                    self.is_open = True
                if "sent" in message:
                    self._slots.release(message["sent"])
                    self.sent = message["sent"]
                elif "error" in message:
                    reason, self.is_final = self._redact(str(message["error"])), bool(message["is_final"])
        except (OSError, ValueError):  # it was killed in the middle of a message
            pass
        self._process.end(EXIT_TIMEOUT_S)
        if self.failure is None:
            self.failure = reason or last_line("\n".join(self._process.printed)) or "its process ended"

    def finish(self) -> None:
        """Sends the last frames, says goodbye to the server, and closes."""
        if self.is_open and self.failure is None:
            self._process.send({"end": True})
            self._reader.join(FINISH_TIMEOUT_S)
        self.close()

    def close(self) -> None:
        """Ends the process, whatever it is doing, and releases the memory."""
        self._process.kill()
        self._reader.join(2 * EXIT_TIMEOUT_S)
        self._release_memory()

    def _release_memory(self) -> None:
        self._unlink_memory()
        self._slots.close()

    def _unlink_memory(self) -> None:
        """Removes the memory's name once both sides have it: nothing is left behind, however they end."""
        if self._is_linked:
            self._is_linked = False
            with suppress(FileNotFoundError):
                self._memory.unlink()
