"""Small films for tests, made here, and what is in others: tracks, packets and what is heard."""

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
from tests.conftest import Same, moving_pictures

LINES = ((0.2, 0.7, "one"), (0.9, 1.3, "two"), (1.5, 1.9, "three"))  # seconds


@dataclass
class Sound:
    """A track of it: a tone that is switched on and off ten times a second, so that its place can be heard."""

    codec: str = "aac"
    begin: float = 0.0
    seconds: float = 2.0
    tone: int = 500
    rate: int = 48_000
    layout: str = "stereo"
    gap: float = 0.0
    """Seconds of nothing after the first half."""
    chunk: int = 960
    """Samples that the encoder is given at a time."""


def tone(sound: Sound) -> NDArray[np.int16]:
    """(1, samples * channels), interleaved."""
    clock = np.arange(round(sound.seconds * sound.rate)) / sound.rate
    wave = 12_000 * np.sin(2 * np.pi * sound.tone * clock) * (np.sin(2 * np.pi * 3.3 * clock**2) > 0)
    channels = av.AudioLayout(sound.layout).nb_channels
    return np.repeat(wave.astype(np.int16), channels)[None]


def packets_of(stream: Any, sound: Sound) -> Iterable[Any]:
    samples = tone(sound)
    channels = samples.shape[1] // round(sound.seconds * sound.rate)
    for start in range(0, samples.shape[1] // channels, sound.chunk):
        frame = av.AudioFrame.from_ndarray(samples[:, start * channels : (start + sound.chunk) * channels], "s16", sound.layout)
        late = sound.gap if start >= samples.shape[1] // channels / 2 else 0.0
        frame.sample_rate, frame.time_base = sound.rate, Fraction(1, sound.rate)
        frame.pts = start + round((sound.begin + late) * sound.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def film(
    path: Path, sounds: Sequence[Sound] = (), text: Sequence[str] = (), frames: int = 50, begin: int = 0, **tags: Any
) -> Path:
    """Moving pictures at 25 a second from the `begin`th on, with these tracks; text: the languages of its subtitles."""
    if text:
        lines = "\n".join(f"{n}\n00:00:{a:06.3f} --> 00:00:{b:06.3f}\n<i>{t}</i>\n" for n, (a, b, t) in enumerate(LINES, 1))
        path.with_suffix(".srt").write_text(lines.replace(".", ",").replace("<i>,", "<i>"))
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        out.metadata.update({key: value for key, value in tags.items() if key != "chapters"})
        if "chapters" in tags:
            out.set_chapters(tags["chapters"])
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        tracks: list[Any] = []
        for number, sound in enumerate(sounds):
            track = out.add_stream(sound.codec, rate=sound.rate, layout=sound.layout)
            track.time_base = Fraction(1, sound.rate)
            track.metadata.update(language=("deu", "eng", "fra")[number], title=f"Ton {number}")
            track.disposition = Disposition.default if number == 1 else Disposition.comment if number else Disposition(0)
            tracks.append(track)
        texts = []
        for language in text:
            source = av.open(str(path.with_suffix(".srt")))
            texts.append((out.add_stream_from_template(source.streams.subtitles[0]), source))
            texts[-1][0].metadata["language"] = language
        made: list[Any] = []
        for index, image in enumerate(moving_pictures(frames), begin):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            made += stream.encode(picture)
        made += stream.encode(None)
        for track, sound in zip(tracks, sounds, strict=True):
            made += packets_of(track, sound)
        for track, source in texts:
            for packet in source.demux():
                if packet.size:
                    packet.stream = track
                    made.append(packet)
        for packet in sorted(made, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
        for _, source in texts:
            source.close()
    return path


def convert(source: Path, output: Path, **options: Any) -> ConversionReport:
    preset = {"preset": "8" if output.suffix == ".webm" else "ultrafast"}
    return convert_file(source, output, Same(), ConvertOptions(**preset | options))


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, Fraction, bytes]]:
    """(time, duration, bytes) of each packet of a track."""
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == kind][number]
        found = [packet for packet in container.demux(stream) if packet.size and packet.pts is not None]
        return [((p.pts or 0) * p.time_base, (p.duration or 0) * p.time_base, bytes(p)) for p in found]


def described(path: Path, kind: str) -> list[tuple[str, str | None, str | None, Disposition]]:
    with av.open(str(path)) as container:
        found = [stream for stream in container.streams if stream.type == kind]
        return [
            (
                s.codec_context.codec.canonical_name,
                s.metadata.get("language"),
                s.metadata.get("title") or s.metadata.get("handler_name"),
                s.disposition & (Disposition.default | Disposition.comment),
            )
            for s in found
        ]


def heard(path: Path) -> NDArray[np.float32]:
    """The first track from time 0 on, one channel at 48 kHz, 3 s of it; silence where there is none for 5 ms or more."""
    out = np.zeros(3 * 48_000, np.float32)
    end = -48_000
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 48_000)
        for frame in container.decode(audio=0):
            begin = round((frame.pts or 0) * (frame.time_base or 0) * 48_000)
            begin = end if abs(begin - end) < 240 else begin  # Matroska's times are rounded to 1 ms
            end = begin + frame.samples
            wave = np.concatenate([made.to_ndarray()[0] for made in resampler.resample(frame)] or [np.zeros(0, np.float32)])
            wave, begin = wave[max(0, -begin) :], max(0, begin)
            wave = wave[: max(0, len(out) - begin)]
            out[begin : begin + len(wave)] = wave
    return out


def lag(after: NDArray[np.float32], before: NDArray[np.float32]) -> int:
    """Samples by which these waves come later, where they agree best."""
    length = 2 * len(before)
    agreement = np.fft.irfft(np.fft.rfft(after, length) * np.fft.rfft(before, length).conj())
    best = int(agreement.argmax())
    return best if best < len(before) else best - length


def likeness(after: NDArray[np.float32], before: NDArray[np.float32]) -> float:
    return float(np.corrcoef(after, before)[0, 1])


def with_packets(path: Path, codec: str, data: bytes = b"\x16\x00\x00") -> Path:
    """Pictures and a track of a codec that PyAV does not encode: two packets of `data`."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rate = {"rate": 48_000} if codec == "dts" else {}
        other: Any = out.add_data_stream(codec) if codec == "klv" else out.add_mux_stream(codec, **rate)
        for index, image in enumerate(moving_pictures(3)):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(picture))
            packet = av.Packet(data)
            packet.stream, packet.time_base = other, Fraction(1, 1000)
            packet.pts = packet.dts = 40 * index
            packet.duration = 40
            out.mux(packet)
        out.mux(stream.encode(None))
    return path
