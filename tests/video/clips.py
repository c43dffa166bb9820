"""Makes small videos for tests, and reads frames, timestamps, packets and sound from videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.report import ConversionReport
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from tests.conftest import Same, moving_frames

SUBTITLES = ((0.2, 0.7, "one"), (0.9, 1.3, "two"), (1.5, 1.9, "three"))  # start and end in seconds, text


@dataclass
class SoundTrack:
    """A tone that switches on and off faster and faster, so that `lag` can find its position."""

    codec: str = "aac"
    start: float = 0.0
    """Seconds."""
    seconds: float = 2.0
    tone: int = 500
    """Hz."""
    rate: int = 48_000
    """Samples per second."""
    layout: str = "stereo"
    gap: float = 0.0
    """Seconds without packets after the first half."""
    chunk: int = 960
    """Samples per frame that the encoder receives."""


def samples_of(track: SoundTrack) -> NDArray[np.int16]:
    """Computes the samples of the track, (1, samples * channels), interleaved."""
    time = np.arange(round(track.seconds * track.rate)) / track.rate
    wave = 12_000 * np.sin(2 * np.pi * track.tone * time) * (np.sin(2 * np.pi * 3.3 * time**2) > 0)
    channels = av.AudioLayout(track.layout).nb_channels
    return np.repeat(wave.astype(np.int16), channels)[None]


def encode_sound(stream: Any, track: SoundTrack) -> Iterable[Any]:
    """Yields the encoded packets of the track."""
    samples = samples_of(track)
    channels = samples.shape[1] // round(track.seconds * track.rate)
    for start in range(0, samples.shape[1] // channels, track.chunk):
        frame = av.AudioFrame.from_ndarray(samples[:, start * channels : (start + track.chunk) * channels], "s16", track.layout)
        gap = track.gap if start >= samples.shape[1] // channels / 2 else 0.0
        frame.sample_rate, frame.time_base = track.rate, Fraction(1, track.rate)
        frame.pts = start + round((track.start + gap) * track.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def make_video(
    path: Path,
    sounds: Sequence[SoundTrack] = (),
    text: Sequence[str] = (),
    frames: int = 50,
    start: int = 0,
    rate: int = 25,
    **tags: Any,
) -> Path:
    """Writes a 64x48 video with these sound tracks and tags. rate: frames per second.

    text: the language of each subtitle track. start: timestamp of the first frame, in frames.
    """
    if text:
        lines = "\n".join(f"{n}\n00:00:{a:06.3f} --> 00:00:{b:06.3f}\n<i>{t}</i>\n" for n, (a, b, t) in enumerate(SUBTITLES, 1))
        path.with_suffix(".srt").write_text(lines.replace(".", ",").replace("<i>,", "<i>"))
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        out.metadata.update({key: value for key, value in tags.items() if key != "chapters"})
        if "chapters" in tags:
            out.set_chapters(tags["chapters"])
        stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound_streams: list[Any] = []
        for number, sound in enumerate(sounds):
            track = out.add_stream(sound.codec, rate=sound.rate, layout=sound.layout)
            track.time_base = Fraction(1, sound.rate)
            track.metadata.update(language=("deu", "eng", "fra")[number], title=f"Ton {number}")
            track.disposition = Disposition.default if number == 1 else Disposition.comment if number else Disposition(0)
            sound_streams.append(track)
        text_streams = []
        for language in text:
            source = av.open(str(path.with_suffix(".srt")))
            text_streams.append((out.add_stream_from_template(source.streams.subtitles[0]), source))
            text_streams[-1][0].metadata["language"] = language
        encoded: list[Any] = []
        for index, image in enumerate(moving_frames(frames), start):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            encoded += stream.encode(frame)
        encoded += stream.encode(None)
        for track, sound in zip(sound_streams, sounds, strict=True):
            encoded += encode_sound(track, sound)
        for track, source in text_streams:
            for packet in source.demux():
                if packet.size:
                    packet.stream = track
                    encoded.append(packet)
        for packet in sorted(encoded, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
        for _, source in text_streams:
            source.close()
    return path


def convert(source: Path, output: Path, **options: Any) -> ConversionReport:
    """Converts with a fast preset and a function that changes nothing."""
    preset = {"preset": "8" if output.suffix == ".webm" else "ultrafast"}
    return convert_file(source, output, Same(), ConvertOptions(**preset | options))


def frame_times(path: Path) -> list[Fraction]:
    """Reads the exact presentation time of each frame, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return [frame.pts * stream.time_base for frame in container.decode(stream) if frame.pts is not None]


def read_frames(path: Path) -> list[Image]:
    with VideoFile(path) as video:
        return [frame.image for frame in video]


def mean_difference(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Computes the mean absolute difference, in levels."""
    assert image.shape == other.shape
    return float(np.abs(image.astype(int) - other).mean())


def psnr(images: list[Image], others: list[Image]) -> float:
    """Computes the luma's PSNR in dB: 4:2:0 halves the resolution of the colors, and small test images are mostly edges."""
    weights = np.array([0.114, 0.587, 0.299])
    square = np.mean([(a @ weights - b @ weights) ** 2 for a, b in zip(images, others, strict=True)])
    return float(10 * np.log10(255**2 / max(square, 1e-9)))


def read_packets(path: Path, stream_type: str, number: int = 0) -> list[tuple[Fraction, Fraction, bytes]]:
    """Reads (time, duration, bytes) of each packet of a track; times in seconds."""
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == stream_type][number]
        packets = [packet for packet in container.demux(stream) if packet.size and packet.pts is not None]
        return [((p.pts or 0) * p.time_base, (p.duration or 0) * p.time_base, bytes(p)) for p in packets]


def describe_tracks(path: Path, stream_type: str) -> list[tuple[str, str | None, str | None, Disposition]]:
    """Reads (codec, language, title, disposition) of each track of this type."""
    with av.open(str(path)) as container:
        found = [stream for stream in container.streams if stream.type == stream_type]
        return [
            (
                s.codec_context.codec.canonical_name,
                s.metadata.get("language"),
                s.metadata.get("title") or s.metadata.get("handler_name"),
                s.disposition & (Disposition.default | Disposition.comment),
            )
            for s in found
        ]


def decode_sound(path: Path) -> NDArray[np.float32]:
    """Decodes the first 3 s of the first sound track from time 0 on, mono at 48 kHz. Gaps of 5 ms or more are silence."""
    out = np.zeros(3 * 48_000, np.float32)
    end = -48_000
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 48_000)
        for frame in container.decode(audio=0):
            start = round((frame.pts or 0) * (frame.time_base or 0) * 48_000)
            start = end if abs(start - end) < 240 else start  # Matroska rounds times to 1 ms
            end = start + frame.samples
            wave = np.concatenate([part.to_ndarray()[0] for part in resampler.resample(frame)] or [np.zeros(0, np.float32)])
            wave, start = wave[max(0, -start) :], max(0, start)
            wave = wave[: max(0, len(out) - start)]
            out[start : start + len(wave)] = wave
    return out


def lag(after: NDArray[np.float32], before: NDArray[np.float32]) -> int:
    """Samples by which `after` is later than `before`: the maximum of their cross-correlation."""
    length = 2 * len(before)
    scores = np.fft.irfft(np.fft.rfft(after, length) * np.fft.rfft(before, length).conj())
    best = int(scores.argmax())
    return best if best < len(before) else best - length


def correlation(after: NDArray[np.float32], before: NDArray[np.float32]) -> float:
    """Computes Pearson's correlation, 1 for equal waves."""
    return float(np.corrcoef(after, before)[0, 1])


def make_video_with_packets(path: Path, codec: str, data: bytes = b"\x16\x00\x00") -> Path:
    """Writes a video with a track of a codec that PyAV does not encode; each of its three packets holds `data`."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rate = {"rate": 48_000} if codec == "dts" else {}
        other: Any = out.add_data_stream(codec) if codec == "klv" else out.add_mux_stream(codec, **rate)
        for index, image in enumerate(moving_frames(3)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
            packet = av.Packet(data)
            packet.stream, packet.time_base = other, Fraction(1, 1000)
            packet.pts = packet.dts = 40 * index
            packet.duration = 40
            out.mux(packet)
        out.mux(stream.encode(None))
    return path
