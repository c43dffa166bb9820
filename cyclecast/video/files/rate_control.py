"""Options of encoders for a stream over a network: a constant bit rate, few frames held back, keyframes when asked for."""

from __future__ import annotations

from cyclecast.video.files.encoders import ChosenEncoder

BUFFER_S = 1.0  # of video at the full bit rate: what a keyframe may borrow
NO_LOOKAHEAD = "sliced-threads=1:sync-lookahead=0:rc-lookahead=0:mbtree=0"  # x264 then outputs each frame at once
STREAMING = {  # hardware -> its options; None: x264
    None: {"preset": "superfast", "sc_threshold": "0", "forced-idr": "1", "x264-params": NO_LOOKAHEAD},
    "nvenc": {"preset": "p3", "tune": "ll", "rc": "cbr", "zerolatency": "1", "delay": "0", "forced-idr": "1"},
    "qsv": {"preset": "veryfast", "async_depth": "1", "forced_idr": "1"},
    "vaapi": {"rc_mode": "CBR", "async_depth": "1"},
    "amf": {"usage": "lowlatency", "rc": "cbr", "forced_idr": "1"},
    "videotoolbox": {"realtime": "1"},
    "mf": {"hw_encoding": "1", "rate_control": "cbr"},
    "vulkan": {"rc_mode": "cbr"},
}


def streaming_options(encoder: ChosenEncoder, bit_rate: int, keyframe_frames: int) -> dict[str, str]:
    """Returns FFmpeg's options of an H.264 encoder for a stream.

    bit_rate: bits per second, at most. keyframe_frames: frames between keyframes, for encoders that accept no requests for one.
    """
    bits = str(bit_rate)
    limits = {"b": bits, "maxrate": bits, "bufsize": str(round(BUFFER_S * bit_rate)), "g": str(keyframe_frames), "bf": "0"}
    return limits | STREAMING.get(encoder.hardware, {})
