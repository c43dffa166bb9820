"""A microphone, captured in a process of its own. One that is lost is opened again until it is back."""

from __future__ import annotations

import platform
import re
import threading
from typing import Any

from cyclecast.errors import InputError
from cyclecast.isolated import last_line
from cyclecast.video.live.capture.client import RETRY_DELAYS_S
from cyclecast.video.live.message_process import MessageProcess
from cyclecast.video.live.messages import OnMessage
from cyclecast.video.live.sound.chunk import chunk_from_message
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.sound.microphone_process import main

OPEN_TIMEOUT_S = 15.0
EXIT_TIMEOUT_S = 2.0
FORMATS = {"Linux": "alsa", "Darwin": "avfoundation", "Windows": "dshow"}  # of FFmpeg, for a device without one
EXAMPLES = {"Linux": "--audio default or --audio hw:1", "Darwin": "--audio 0", "Windows": '--audio "Microphone (USB)"'}


class Microphone:
    """Fills a feed with a device's sound until `close`. device: a name, or FORMAT:NAME with one of FFmpeg's input formats.

    Raises InputError in one line if the device cannot be opened.
    """

    def __init__(self, device: str, feed: SoundFeed, on_message: OnMessage) -> None:
        self._device, self._feed, self._on_message = device, feed, on_message
        self._request = device_for_ffmpeg(device, platform.system())
        self._closing = threading.Event()
        self._decided = threading.Event()  # it is open, or cannot be opened
        self._failure: str | None = None
        self._is_lost = False
        self._process: MessageProcess | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep_open, name="microphone", daemon=True)
        self._thread.start()
        if not self._decided.wait(OPEN_TIMEOUT_S):
            self._failure = f"no sound within {OPEN_TIMEOUT_S:g} s"
        if self._failure is not None:
            self.close()
            example = EXAMPLES.get(platform.system(), "--audio auto")
            raise InputError(f"--audio {device}: {self._failure}; type {example}, or --audio none")

    def _keep_open(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            reason, is_opened = self._run_process()
            if not self._decided.is_set():
                self._failure = reason
                self._decided.set()
                return
            if self._closing.is_set():
                return
            attempt = 0 if is_opened else attempt + 1
            if is_opened:
                self._is_lost = True
                self._on_message(f"the microphone {self._device} is gone: {reason}; trying again until it is back")
            self._closing.wait(RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) - 1)])

    def _run_process(self) -> tuple[str, bool]:
        """Runs one process until it ends. Returns why it ended, and whether it had opened the device."""
        try:
            process = MessageProcess(main, "microphone")
        except OSError as error:
            return f"its process cannot be started ({error.strerror})", False
        with self._lock:
            self._process = process
            if self._closing.is_set():
                process.kill()
        reason, is_opened = "", False
        process.send(list(self._request))
        try:
            for message in process.messages():
                if "sound" in message:
                    self._feed.put(chunk_from_message(message))
                elif "open" in message:
                    is_opened = self._feed.is_present = True
                    self._decided.set()
                    if self._is_lost:
                        self._is_lost = False
                        self._on_message(f"the microphone {self._device} is back")
                else:
                    reason = str(message.get("error", ""))
        except (OSError, ValueError):  # it was killed in the middle of a message
            pass
        process.end(EXIT_TIMEOUT_S)
        return reason or last_line("\n".join(process.printed)) or "its process ended", is_opened

    def close(self) -> None:
        """Ends the process, whatever the driver does."""
        self._closing.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join(2 * EXIT_TIMEOUT_S)


def open_sound(audio: str, on_message: OnMessage) -> SoundFeed:
    """Returns the feed for the sound of a run, with the microphone if `audio` names one. Raises InputError if that fails."""
    feed = SoundFeed()
    if audio not in ("auto", "none"):
        feed.on_close = Microphone(audio, feed, on_message).close
    return feed


def device_for_ffmpeg(device: str, system: str) -> tuple[str, str, dict[str, Any]]:
    """Returns (name, format, options) for FFmpeg on this system. Raises InputError for a format that PyAV's FFmpeg lacks."""
    import av

    form, name = FORMATS.get(system, "alsa"), device
    match = re.fullmatch(r"([a-z]+):(.+)", device)
    if match and match[1] in {*FORMATS.values(), "pulse", "jack", "sndio", "oss", "lavfi"}:
        form, name = match[1], match[2]
    if form not in av.formats_available:
        raise InputError(f"--audio {device}: this build of FFmpeg has no {form}; type alsa:NAME on Linux")
    if form == "avfoundation" and ":" not in name:
        name = f":{name}"
    if form == "dshow" and not name.startswith("audio="):
        name = f"audio={name}"
    return name, form, {}
