"""VP8 for a live painting: as quick as an encoder gets, at a rate that brush strokes survive."""

from __future__ import annotations

import os
import time

import av
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from av.frame import Frame
from av.video.codeccontext import VideoCodecContext

BITS = 4.5  # per pixel and second
LOWEST, HIGHEST = 500_000, 10_000_000  # bits per second, unless the network has room for less
FLOOR = 150_000  # bits per second: what is left of a picture below that is no picture
SHARE = 0.85  # of what the other side says the network has room for
LOWER, HIGHER = 0.8, 1.4  # changes that are worth a new key frame
PATIENCE = 5.0  # seconds between two changes
QUICKEST = "-12"  # libvpx goes to -16, but falls apart there


class QuickVp8(Vp8Encoder):
    """aiortc's encoder with other settings, and a rate that goes with the size of the picture.

    aiortc's own denoises, which takes half of its time and some of the brush strokes, stops at 1.5 Mbit/s, and makes a key frame
    whenever the rate moves by a tenth.
    """

    def __init__(self) -> None:
        super().__init__()
        self._room: float | None = None  # bits per second, as the other side says
        self._changed = 0.0

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the encoder aims at; setting it says what the network has room for."""
        return 0 if self.codec is None else self.codec.bit_rate or 0

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._room = bitrate

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """As aiortc's: a yuv420p frame with its time -> payloads for RTP, and the time in 90,000ths of a second."""
        assert isinstance(frame, av.VideoFrame) and frame.pts is not None and frame.time_base is not None
        rate = self._rate(frame.width, frame.height)
        if self.codec is None or (self.codec.width, self.codec.height) != (frame.width, frame.height) or self._is_worth(rate):
            self.codec, self._changed = opened(frame.width, frame.height, rate), time.monotonic()
        if force_keyframe:
            frame.pict_type = av.video.frame.PictureType.I
        data = b"".join(bytes(packet) for packet in self.codec.encode(frame))
        payloads = self._packetize(data, self.picture_id)
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        return payloads, convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)

    def _rate(self, width: int, height: int) -> int:
        wanted = min(max(LOWEST, BITS * width * height), HIGHEST)
        return round(wanted if self._room is None else min(wanted, max(FLOOR, SHARE * self._room)))

    def _is_worth(self, rate: int) -> bool:
        now = self.target_bitrate
        return time.monotonic() - self._changed > PATIENCE and not LOWER * now < rate < HIGHER * now


def opened(width: int, height: int, rate: int) -> VideoCodecContext:
    """libvpx at a constant rate, in bits per second, without any delay."""
    codec: VideoCodecContext = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.bit_rate, codec.time_base = rate, VIDEO_TIME_BASE
    codec.gop_size = 3000  # a key frame is made when it is asked for
    codec.qmin, codec.qmax = 4, 56
    codec.thread_count = 1 if width * height < 1280 * 720 else min(4, max(1, (os.cpu_count() or 1) // 2))
    codec.options = {
        "bufsize": str(rate),
        "minrate": str(rate),
        "maxrate": str(rate),
        "deadline": "realtime",
        "cpu-used": QUICKEST,
        "lag-in-frames": "0",
        "noise-sensitivity": "0",
        "static-thresh": "1",
        "overshoot-pct": "15",
        "undershoot-pct": "100",
    }
    return codec
