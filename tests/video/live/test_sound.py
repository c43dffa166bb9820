"""Sound of a live run: as captured, in sync with the frames, in recordings and over the network; never unless it is asked for."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.clock import draw_clock
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sound.chunk import RATE, SoundChunk, chunk_from_message
from cyclecast.video.live.sound.clock import DeviceClock, FrameClock
from cyclecast.video.live.sound.feed import KEPT_S, SoundFeed, SoundReader
from cyclecast.video.live.sound.microphone import device_for_ffmpeg
from cyclecast.video.live.sound.track import LATE_S, PRIMING, TOLERANCE, SoundTimeline
from cyclecast.video.live.sources.source import CaptureSettings
from tests.conftest import Same
from tests.video.live.receivers import read_packets
from tests.video.live.sessions import Slow, open_as, wait_for
from tests.video.live.test_outputs import free_port
from tests.video.live.test_recording import run_with

FPS, SECONDS = 25, 20.0
BEEPS = [0.5 + 0.8 * number for number in range(24)]  # seconds
IN_SYNC_S = 0.02


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with a clock in each frame, which flashes while a beep sounds."""
    path = tmp_path_factory.mktemp("clip") / "beeps.mkv"
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "bf": "0"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        audio: Any = out.add_stream("pcm_s16le", rate=44_100, layout="mono")
        times = np.arange(round(SECONDS * 44_100)) / 44_100
        beeping = np.any([(times >= beep) & (times < beep + 0.1) for beep in BEEPS], axis=0)
        sound = (20_000 * np.sin(2 * np.pi * 1000 * times) * beeping).astype(np.int16)
        for index in range(round(SECONDS * FPS)):
            seconds = index / FPS
            flash = any(beep <= seconds < beep + 0.1 for beep in BEEPS)
            image = np.full((96, 160, 3), 255 if flash else 90, np.uint8)
            draw_clock(image, seconds)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
            part = sound[index * 1764 : (index + 1) * 1764][None]
            stretch = av.AudioFrame.from_ndarray(part, "s16", "mono")
            stretch.sample_rate, stretch.pts, stretch.time_base = 44_100, index * 1764, Fraction(1, 44_100)
            out.mux(audio.encode(stretch))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def sound_lag(messages: list[dict[str, Any]], jitter: float = 0.005) -> float:
    """Returns how many seconds the sound is behind the frames: beeps against the clock in the frames."""
    frames = [message for message in messages if message.get("clock") is not None]
    assert len(frames) > 20
    shift = median(frame["pts"] - frame["clock"] for frame in frames)
    assert all(abs(frame["pts"] - frame["clock"] - shift) < jitter for frame in frames)
    onsets: list[float] = []
    begin = min(message["pts"] for message in messages if "loud" in message)  # a receiver may come in the middle of a beep
    for message in messages:
        onset = message.get("loud")
        if onset is not None and onset > begin + 0.3 and (not onsets or onset > onsets[-1] + 0.4):
            onsets.append(onset)
    first = onsets[0] - shift
    heard = BEEPS[next(index for index, beep in enumerate(BEEPS) if abs(beep - first) < 0.3) :]
    assert len(onsets) >= 2
    return max((float(onset - shift - beep) for onset, beep in zip(onsets, heard, strict=False)), key=abs)


def session_of(source: Path | str, *sinks: Path | str, audio: str = "auto", delay: float = 0.0) -> Session:
    return Session(
        str(source),
        ["model"],
        open_as(Slow(delay) if delay else Same()),
        [str(sink) for sink in sinks],
        partial(open_sink, overwrite=True),
        CaptureSettings(loop=False),
        LiveOptions(audio=audio),
    )


def test_sound_is_in_sync_in_recordings_over_the_network_and_from_a_stream(clip: Path, tmp_path: Path) -> None:
    """A model that takes 0.1 s makes the frames late, and rare: the sound waits for them. Another run receives the stream."""
    files = [tmp_path / "show.mp4", tmp_path / "show.mkv"]
    received = tmp_path / "received.mkv"
    address = f"udp://127.0.0.1:{free_port()}"
    session = session_of(clip, *files, address, delay=0.1)

    def act() -> None:
        other = session_of(address, received)
        run_with(other, lambda: wait_for(lambda: other.meter.shown > 40, "the stream"))

    report = run_with(session, act)
    assert [sink.failure for sink in report.sinks] == [None] * 3
    assert report.latency_ms.p50 > 90
    lags = {path.name: sound_lag(list(read_packets(str(path), "", {}))) for path in files}
    through = sound_lag(list(read_packets(str(received), "", {})), jitter=1.0)
    print({name: f"{1000 * lag:.1f} ms" for name, lag in lags.items()}, f"received {1000 * through:.1f} ms")
    assert all(abs(lag) < IN_SYNC_S for lag in lags.values()), lags
    assert abs(through) < 3 * IN_SYNC_S  # its frames have the times of their arrival


def test_there_is_no_sound_unless_it_is_asked_for(clip: Path, tmp_path: Path) -> None:
    session = session_of(clip, tmp_path / "show.mp4", audio="none")
    run_with(session, lambda: wait_for(lambda: session.meter.shown > 3, "frames"))
    with av.open(str(tmp_path / "show.mp4")) as container:
        assert len(container.streams.video) == 1 and not container.streams.audio


def test_a_microphone_is_recorded_and_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """FFmpeg's generator stands in for the device."""
    path = tmp_path / "show.mkv"
    session = session_of("pattern://160x96@20", path, audio="lavfi:sine=frequency=440:sample_rate=44100,volume=8,arealtime")
    run_with(session, lambda: wait_for(lambda: session.meter.shown > 30, "frames"))
    messages = list(read_packets(str(path), "", {}))
    loud = [message["loud"] for message in messages if message.get("loud") is not None]
    assert len(loud) > 20 and max(loud) - min(loud) > 0.8
    start = time.monotonic()
    with pytest.raises(InputError, match=r"--audio lavfi:nonsense: .+; type .+, or --audio none"):
        session_of("pattern://160x96@20", path, audio="lavfi:nonsense")
    assert time.monotonic() - start < 15


def test_names_of_devices_on_each_system() -> None:
    with (
        pytest.raises(InputError, match="has no dshow") if "dshow" not in av.formats_available else pytest.MonkeyPatch().context()
    ):
        device_for_ffmpeg("Microphone (USB)", "Windows")
    if "alsa" in av.formats_available:
        assert device_for_ffmpeg("hw:1", "Linux") == ("hw:1", "alsa", {})
        assert device_for_ffmpeg("alsa:default", "Windows") == ("default", "alsa", {})


def chunk(at: float, samples: int, value: int = 1) -> SoundChunk:
    return SoundChunk(at, np.full((samples, 2), value, np.int16))


def test_every_sample_has_its_place() -> None:
    timeline = SoundTimeline(100.0)
    begin = 100.0 + PRIMING / RATE

    def place(*chunks: SoundChunk) -> list[tuple[int, int, int]]:
        pieces = [piece for one in chunks for piece in timeline.place(one)]
        return [(first - PRIMING, len(samples), int(samples[0, 0])) for first, samples in pieces]

    assert place(chunk(begin - 0.1, 4_799 + 1)) == []  # before the first frame
    assert place(chunk(begin, 480), chunk(begin + 0.01 + 0.9 * TOLERANCE / RATE, 480)) == [(0, 480, 1), (480, 480, 1)]
    assert place(chunk(begin + 0.05, 480)) == [(960, 1440, 0), (2400, 480, 1)]  # a gap
    assert place(chunk(begin + 0.04, 1920)) == [(2880, 960, 1)]  # half of it was there
    (silence,) = timeline.keep_up(begin + LATE_S + 0.09)
    assert silence[0] - PRIMING == 3840 and len(silence[1]) == 480
    assert place(chunk(begin + 60, 480)) == [(60 * RATE, 480, 1)]  # a long pause is not filled


def test_a_reader_gets_each_chunk_once_and_old_ones_are_dropped() -> None:
    feed = SoundFeed()
    one, two = SoundReader(feed), SoundReader(feed)
    for number in range(4):
        feed.put(chunk(float(number), RATE // 2, number))
    assert [part.at for part in one.read(2.5)] == [0.0, 1.0, 2.0] and one.read(2.5) == []
    for number in range(4, 4 + 2 * round(KEPT_S)):
        feed.put(chunk(float(number), RATE // 2, number))
    kept = [part.at for part in two.read(1e9)]
    assert len(kept) == 2 * KEPT_S and kept[-1] == 3 + 2 * KEPT_S
    assert [part.at for part in one.read(1e9)] == kept
    sent = chunk_from_message(replace(chunk(1.5, 3), samples=np.array([[1, -2], [3, -4], [32767, -32768]], np.int16)).message())
    assert sent.at == 1.5 and sent.samples.tolist() == [[1, -2], [3, -4], [32767, -32768]]


def test_clocks_of_devices_and_streams() -> None:
    device, stream = DeviceClock(), FrameClock()
    assert device.time_of(0.0) is None and stream.time_of(0.0) is None
    for number in range(40):
        delay = (0.3, 0.1, 0.02, 0.4, 0.02)[number % 5]
        device.observe(float(number), 50.0 + number + delay)
        stream.observe(float(number), 50.0 + number + delay)
    assert device.time_of(7.0) == pytest.approx(57.02, abs=0.005)  # the least delay
    assert stream.time_of(7.0) == pytest.approx(57.1, abs=0.005)  # the usual one
    for clock in (device, stream):
        clock.observe(1000.0, 90.0)  # it starts again
        assert clock.time_of(1000.0) == 90.0
