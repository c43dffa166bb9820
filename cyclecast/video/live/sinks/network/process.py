"""The process of a network output: it encodes frames from shared memory and sends them, and can be killed whatever it waits for.

It receives lines of JSON: the request, with the name of the memory, then {"sound": samples, "sound_at": seconds} and {"frame":
number, "slot": slot, "at": seconds}, at last {"end": true}. It sends {"open": true} when the server has accepted it, {"sent":
number} when a frame is on its way, and {"error": line, "is_final": whether another try is useless}. `live.slots` describes who
owns which slot.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import IO, TYPE_CHECKING, Any

from cyclecast.video.files.encoders import ChosenEncoder
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.message_process import open_messages, read_messages, send_message
from cyclecast.video.live.sinks.network.frame_encoder import UnusableOutput
from cyclecast.video.live.sinks.network.muxing import MuxedOutput
from cyclecast.video.live.slots import Slots, attach
from cyclecast.video.live.sound.chunk import SoundChunk, chunk_from_message

if TYPE_CHECKING:
    from cyclecast.video.live.sinks.network.whip import WhipOutput

log = logging.getLogger(__name__)


def main() -> None:
    """Reads the request, then sends frames until the end, an error, or until the main process is gone."""
    out = open_messages()
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=read_messages, args=(messages,), daemon=True).start()
    try:
        serve(messages.get(), messages, out)
    except Exception as error:
        log.debug("the output failed", exc_info=True)
        send_message(out, error=failure_text(error), is_final=isinstance(error, UnusableOutput))
    out.flush()
    os._exit(0)  # drivers may hang or crash when they are taken down


def serve(request: dict[str, Any], messages: queue.SimpleQueue[dict[str, Any]], out: IO[str]) -> None:
    """Connects, and sends everything that arrives. Raises OutputError if the connection breaks."""
    width, height = request.pop("size")
    slots = Slots(attach(request.pop("memory")), width, height)
    encoder = ChosenEncoder(**request.pop("encoder"))
    output = output_class(request["muxer"])(encoder=encoder, size=(width, height), **request)
    send_message(out, open=True)
    chunks: list[SoundChunk] = []
    while "end" not in (message := messages.get()):
        if "sound" in message:
            chunks.append(chunk_from_message(message))
        else:
            output.write(slots.read(message["slot"]), message["at"], chunks)
            chunks = []
            send_message(out, sent=message["frame"])
    output.close()


def output_class(muxer: str) -> type[MuxedOutput] | type[WhipOutput]:
    """Returns what sends: aiortc for WHIP, which FFmpeg's own muxer does not connect to every server, FFmpeg for the rest."""
    if muxer != "whip":
        return MuxedOutput
    from cyclecast.video.live.sinks.network.whip import WhipOutput

    return WhipOutput
