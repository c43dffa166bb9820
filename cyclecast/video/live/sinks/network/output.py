"""A sink that streams to a server: rtmp, rtsp, srt, udp, HLS. A lost server is tried again until it is back."""

from __future__ import annotations

import re
import time
from dataclasses import asdict

from cyclecast.errors import OutputError
from cyclecast.files import write_error
from cyclecast.video.files.codecs import choose_encoder
from cyclecast.video.files.encoders import ChosenEncoder
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.client import RETRY_DELAYS_S, STABLE_S
from cyclecast.video.live.sinks.network.address import OutputAddress, parse_output
from cyclecast.video.live.sinks.network.connection import Connection
from cyclecast.video.live.sinks.network.settings import StreamSettings
from cyclecast.video.live.sinks.sink import MissingSink, OutputState, SessionControls
from cyclecast.video.live.sound.feed import SoundReader, sound_reader
from cyclecast.video.live.sources.address import HIDDEN, redacted_text
from cyclecast.video.live.styling.styled_frame import StyledFrame

NOMINAL_FPS = 30.0  # for encoders, until a rate is measured; the frames keep their own times
MIN_KEY_LENGTH = 8  # characters: shorter parts of a path, such as "live", are words that a message may have


class NetworkOutput:
    """Sends each frame with the time of its capture. The first one sets the size; frames of another size are scaled into it.

    It never waits for the network: what a slow one does not take is dropped before it is encoded, and counted. While the source
    is gone, the repeated frames keep the stream alive. Raises what `parse_output` raises, and MissingSink for a folder that
    cannot be written.
    """

    def __init__(
        self, address: str, controls: SessionControls, settings: StreamSettings | None = None, overwrite: bool = False
    ) -> None:
        self._address, self._controls = address, controls
        self._target: OutputAddress = parse_output(address, settings or StreamSettings(), overwrite)
        self.name = self._target.name
        self.output = OutputState(self.name)
        self._encoder: ChosenEncoder | None = None
        self._size = (0, 0)
        self._sound: SoundReader | None = None  # from the first frame on, if there is sound
        self._connection: Connection | None = None
        self._sent = 0  # frames of earlier connections
        self._opened = 0.0  # when this side began to connect
        self._attempt, self._due = 0, 0.0  # of the next connection
        self._lost: float | None = None  # since when there is no connection
        self._reason = ""  # why
        if self._target.playlist is not None:
            try:
                self._target.playlist.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MissingSink(str(write_error(error, self.name))) from error

    def show(self, frame: StyledFrame) -> None:
        """Sends one frame, or drops it. Raises OutputError if the output cannot work, however often it is tried."""
        self._follow()
        if self._connection is None and time.perf_counter() >= self._due:
            self._connect(frame.image)
        is_repeated = frame.notice is not None
        at = time.perf_counter() if is_repeated else frame.at
        if (self._connection is None or not self._connection.write(frame.image, at, self._sound)) and not is_repeated:
            self.output.dropped += 1

    def idle(self) -> None:
        """Notices that the connection is open, or lost."""
        self._follow()

    def _connect(self, image: Image) -> None:
        """Starts a connection, which opens in the background. Raises OutputError if there is no encoder or no memory."""
        target = self._target
        if self._encoder is None:
            self._size = image.shape[1], image.shape[0]
            self._sound = sound_reader(self._controls.sound)
            self._encoder = choose_encoder("h264", target.encoder, size=self._size)
            self._controls.report(f"{self.name}: encoder {self._encoder.description()}, {target.bit_rate / 1e6:g} Mbit/s")
        options = dict(target.options)
        if "hls_flags" in options and self._attempt:
            options["hls_flags"] += "+append_list"
        request = {
            "url": target.url,
            "muxer": target.muxer,
            "options": options,
            "encoder": asdict(self._encoder),
            "rate": self._frame_rate(),
            "bit_rate": target.bit_rate,
            "keyframe_interval": target.keyframe_interval,
            "sound": self._sound is not None,
        }
        self._attempt, self._opened = self._attempt + 1, time.perf_counter()
        try:
            self._connection = Connection(request, self._size, self._without_secrets)
        except OSError as error:
            raise OutputError(f"its process cannot be started ({error.strerror})") from error

    def _frame_rate(self) -> float:
        recent = self._controls.meter.recent().fps
        return recent if self._controls.meter.shown >= NOMINAL_FPS and recent >= 1 else NOMINAL_FPS

    def _follow(self) -> None:
        """Reports a connection that has opened, and gives up one that is lost."""
        connection = self._connection
        if connection is None:
            return
        connection.check()
        self.output.sent = self._sent + connection.sent
        if connection.is_open and not self.output.is_connected and connection.failure is None:
            self.output.is_connected = True
            self._report_open()
        if connection.failure is None:
            return
        connection.close()
        self._connection, self._sent = None, self.output.sent
        self._reason = connection.failure
        if connection.is_final and not self.output.sent:  # or the server is about to come back
            raise OutputError(connection.failure)
        self._report_loss()

    def _report_open(self) -> None:
        lost, self._lost = self._lost, None
        if lost is None:
            self._controls.report(f"{self.name}: connected")
        else:
            is_back = self.output.sent > 0
            self.output.reconnects += is_back
            self._controls.report(f"{self.name} is {'back' if is_back else 'there'} after {time.perf_counter() - lost:.1f} s")

    def _report_loss(self) -> None:
        now = time.perf_counter()
        if self.output.is_connected and now - self._opened > STABLE_S:
            self._attempt = 1
        self.output.is_connected = False
        self._due = now + RETRY_DELAYS_S[min(self._attempt, len(RETRY_DELAYS_S)) - 1]
        if self._lost is None:
            self._lost = now
            gone, back = ("gone", "back") if self.output.sent else ("not there", "there")
            self._controls.report(f"{self.name} is {gone}: {self._reason}; trying again until it is {back}")

    def _without_secrets(self, text: str) -> str:
        """Removes the address, and every part of it that may be a stream key."""
        if self._target.playlist is not None:
            return text
        url = self._address.partition("#")[0]
        for secret in (self._target.url, *self._target.options.values()):
            text = text.replace(secret, HIDDEN) if len(secret) >= MIN_KEY_LENGTH else text
        text = redacted_text(text, url)
        for part in re.split(r"[/?&=:@]", url.partition("://")[2].partition("/")[2]):
            text = text.replace(part, HIDDEN) if len(part) >= MIN_KEY_LENGTH else text
        return text

    def close(self) -> None:
        """Finishes the stream. Raises OutputError if no server was ever reached."""
        self._follow()
        connection, self._connection = self._connection, None
        if connection is not None:
            is_open = connection.is_open
            connection.finish()  # which kills the process of one that still waits for the server
            self.output.sent = self._sent + connection.sent
            if is_open:
                self._reason = self._reason or connection.failure or ""
        self.output.is_connected = False
        if self._encoder is not None and not self.output.sent:
            raise OutputError(f"no frame was ever sent ({self._reason or 'the run ended before the server answered'})")
