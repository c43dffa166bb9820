"""A VP8 encoder for live video: as fast as libvpx gets, at a bit rate that preserves brush strokes."""

from __future__ import annotations

import os
import time

import av
import cv2
import numpy as np
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from av.frame import Frame
from av.video.codeccontext import VideoCodecContext

from cyclecast.video.live.sinks.web.view import encodable_image
from cyclecast.video.live.styling.styled_frame import StyledFrame

BITS_PER_PIXEL = 4.5  # per second
MIN_BITRATE, MAX_BITRATE = 500_000, 10_000_000  # bits per second, unless the network has less capacity
LOWEST_USEFUL_BITRATE = 150_000  # bits per second: below it the video is unrecognizable
CAPACITY_SHARE = 0.85  # of the capacity that the receiver estimates
LOWER_RATIO, HIGHER_RATIO = 0.8, 1.4  # changes of the bit rate that justify a new key frame
CHANGE_INTERVAL_S = 5.0  # between two changes of the bit rate
CPU_USED = "-12"  # libvpx accepts -16, but the quality collapses there


class LowLatencyVp8Encoder(Vp8Encoder):
    """aiortc's encoder with other settings, and a bit rate that follows the frame size.

    aiortc's own denoises (half of its time, and some of the brush strokes), stops at 1.5 Mbit/s, and encodes a key frame
    whenever the bit rate changes by a tenth. max_bitrate: bits per second; None: what the size of the frames needs.
    """

    def __init__(self, max_bitrate: float | None = None) -> None:
        super().__init__()
        self._max_bitrate = max_bitrate or MAX_BITRATE
        self._capacity: float | None = None  # bits per second, as the receiver estimates
        self._opened_at = 0.0

    @property
    def target_bitrate(self) -> int:
        """The encoder's bits per second. Setting it passes on the network capacity that the receiver estimates."""
        return 0 if self.codec is None else self.codec.bit_rate or 0

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._capacity = bitrate

    @property
    def ideal_bitrate(self) -> int:
        """Bits per second for the last frame's size, if the network has the capacity; 0 before the first frame."""
        return 0 if self.codec is None else round(self._ideal_bitrate(self.codec.width, self.codec.height))

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """Encodes a yuv420p frame with its pts, as in aiortc. Returns the RTP payloads, and the time in 1/90,000 s."""
        assert isinstance(frame, av.VideoFrame) and frame.pts is not None and frame.time_base is not None
        payloads = self._packetize(self.encode_frame(frame, force_keyframe), self.picture_id)
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        return payloads, convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)

    def encode_frame(self, frame: av.VideoFrame, force_keyframe: bool = False) -> bytes:
        """Encodes a yuv420p frame, with its pts, as VP8."""
        bitrate = self._best_bitrate(frame.width, frame.height)
        codec = self.codec
        if codec is None or (codec.width, codec.height) != (frame.width, frame.height) or self._is_change_due(bitrate):
            codec, self._opened_at = open_codec(frame.width, frame.height, bitrate), time.monotonic()
            self.codec = codec
        if force_keyframe:
            frame.pict_type = av.video.frame.PictureType.I
        return b"".join(bytes(packet) for packet in codec.encode(frame))

    def close(self) -> None:
        """Frees libvpx's memory, tens of megabytes, which would wait for the garbage collector otherwise."""
        self.codec = None

    def _best_bitrate(self, width: int, height: int) -> int:
        ideal = self._ideal_bitrate(width, height)
        if self._capacity is None:
            return round(ideal)
        return round(min(ideal, max(LOWEST_USEFUL_BITRATE, CAPACITY_SHARE * self._capacity)))

    def _is_change_due(self, bitrate: int) -> bool:
        current = self.target_bitrate
        is_large = not LOWER_RATIO * current < bitrate < HIGHER_RATIO * current
        return is_large and time.monotonic() - self._opened_at > CHANGE_INTERVAL_S

    def _ideal_bitrate(self, width: int, height: int) -> float:
        return min(max(MIN_BITRATE, BITS_PER_PIXEL * width * height), MAX_BITRATE, self._max_bitrate)


def video_frame_from_styled(frame: StyledFrame) -> av.VideoFrame:
    """Converts to yuv420p, BT.601 in limited range, which VP8 requires."""
    planes = np.asarray(cv2.cvtColor(encodable_image(frame), cv2.COLOR_BGR2YUV_I420), np.uint8)
    return av.VideoFrame.from_ndarray(planes, "yuv420p")


def open_codec(width: int, height: int, bitrate: int) -> VideoCodecContext:
    """Opens libvpx at a constant bit rate, in bits per second, without delay."""
    codec: VideoCodecContext = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.bit_rate, codec.time_base = bitrate, VIDEO_TIME_BASE
    codec.gop_size = 3000  # key frames are encoded on request
    codec.qmin, codec.qmax = 4, 56
    codec.thread_count = 1 if width * height < 1280 * 720 else min(4, max(1, (os.cpu_count() or 1) // 2))
    codec.options = {
        "bufsize": str(bitrate),
        "minrate": str(bitrate),
        "maxrate": str(bitrate),
        "deadline": "realtime",
        "cpu-used": CPU_USED,
        "lag-in-frames": "0",
        "noise-sensitivity": "0",
        "static-thresh": "1",
        "overshoot-pct": "15",
        "undershoot-pct": "100",
    }
    return codec
