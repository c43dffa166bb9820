"""The process that a microphone runs in: a driver may hang. It sends {"open": true}, then sound, or {"error": line}."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import IO, Any

import av

from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.message_process import open_messages, send_message
from cyclecast.video.live.sound.chunk import SoundChunk
from cyclecast.video.live.sound.clock import DeviceClock
from cyclecast.video.live.sound.decoder import SoundDecoder

log = logging.getLogger(__name__)


def main() -> None:
    """Reads the request, [device, format, options], then captures until the device is gone or the main process is."""
    out = open_messages()
    device, form, options = json.loads(sys.stdin.readline())
    threading.Thread(target=_wait_for_parent, daemon=True).start()
    try:
        capture(device, form, options, out)
        send_message(out, error="the device delivers no more sound")
    except Exception as error:
        log.debug("the microphone failed", exc_info=True)
        send_message(out, error=getattr(error, "strerror", None) or failure_text(error))
    out.flush()
    os._exit(0)  # drivers may hang when they are taken down


def _wait_for_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def capture(device: str, form: str, options: dict[str, str], out: IO[str]) -> None:
    """Sends the device's sound as it arrives. A sample was captured when it left the driver, less the sound behind it."""
    with av.open(device, format=form, options=options) as container:
        stream: Any = container.streams.audio[0]
        decoder, clock, captured = SoundDecoder(stream), DeviceClock(), 0.0
        send_message(out, open=True)
        for packet in container.demux(stream):
            for _, samples in decoder.decode(packet) if packet.size else ():
                chunk = SoundChunk(0.0, samples)
                clock.observe(captured + chunk.seconds, time.perf_counter())
                at = clock.time_of(captured)
                captured += chunk.seconds
                if at is not None:
                    send_message(out, **SoundChunk(at, samples).message())
