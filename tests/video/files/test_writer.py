"""Frames of every size and rate are encoded, and an encoder that hangs is an error."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from cyclecast.errors import OutputError
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files import watchdog
from cyclecast.video.files.encoders import ENCODERS
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.watchdog import Watchdog
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Color, Frame, StreamInfo
from tests.conftest import moving_frames

FAST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}


def encode(path: Path, codec: str, size: tuple[int, int], rate: int = 25) -> int:
    """Encodes 30 frames; returns how many are in the file."""
    info = StreamInfo(*size, Fraction(rate), Fraction(1, rate), None, Color(), Fraction(1))
    with VideoWriter(path, info, Encoding(codec, preset=FAST.get(codec))) as writer:
        for pts, image in enumerate(moving_frames(30, *size)):
            writer.write(Frame(image, pts, 1))
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("size", [(160, 16), (16, 160), (320, 24), (640, 20), (48, 32), (34, 48)], ids=str)
def test_frames_with_a_short_side_are_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(watchdog, "HANG_S", 5.0)
    assert encode(tmp_path / f"out{Encoding(codec).part_suffix}", codec, size) == 30


@pytest.mark.parametrize("codec", FAST)
@pytest.mark.parametrize("rate", [240, 480, 1000])
def test_high_rates_are_encoded(tmp_path: Path, codec: str, rate: int) -> None:
    assert encode(tmp_path / "out.mp4", codec, (64, 64), rate) == 30
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([n / rate for n in range(30)], abs=1e-6)


def test_an_encoder_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "HANG_S", 0.4)
    monkeypatch.setattr(watchdog, "POLL_S", 0.1)
    dog, release = Watchdog("libslow"), threading.Event()
    try:
        with pytest.raises(OutputError, match=r"the encoder libslow hangs: no answer for 0\.4 s; use another --codec"):
            dog.call(release.wait)
    finally:
        release.set()
        dog.close()


def test_an_encoder_that_computes_or_fails_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "HANG_S", 0.2)
    monkeypatch.setattr(watchdog, "POLL_S", 0.1)
    dog = Watchdog("libslow")

    def compute(seconds: float) -> str:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return "done"

    assert dog.call(compute, 0.6) == "done"
    with pytest.raises(ZeroDivisionError):
        dog.call(lambda: 1 // 0)
    dog.close()


@pytest.mark.parametrize("name", ["h265", "H265", "H.265", "x265", "HEVC"])
def test_codecs_have_other_names(name: str) -> None:
    assert ConvertOptions(codec=name).codec == "hevc"
    assert ConvertOptions(codec=name.replace("5", "4").replace("HEVC", "AVC")).codec == "h264"
    assert ConvertOptions(codec="mpeg2").codec == "mpeg2"  # an error later, which names it
