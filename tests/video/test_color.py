"""The color description and orientation of a stream are applied once, and the output's description is correct."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.color import SDR, SWSCALE_MATRICES, BgrConverter, frame_from_bgr, output_color
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Color, Image
from tests.conftest import Same

WIDTH, HEIGHT = 64, 48


def corners() -> Image:
    """Draws an image with a different color in each corner, dark elsewhere."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    image[:16, :16], image[:16, -16:], image[-16:, :16] = (30, 30, 220), (40, 200, 40), (220, 60, 40)
    return image


def set_display_matrix(source: Path, output: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Copies an MP4 with a, b, c and d of its track's display matrix (ISO 14496-12, 8.3.2) replaced."""
    data = bytearray(source.read_bytes())
    position = data.find(b"tkhd") + 4 + 40
    for number, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[position + 4 * number : position + 4 * number + 4] = (value << 16).to_bytes(4, "big", signed=True)
    output.write_bytes(data)
    return output


def transform(image: Image, matrix: tuple[int, int, int, int]) -> Image:
    """Transforms the image as a player does: the pixel at (p, q) moves to (a p + c q, b p + d q)."""
    a, b, c, d = matrix
    q, p = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    m, n = a * p + c * q, b * p + d * q
    m, n = m - m.min(), n - n.min()
    out = np.zeros((n.max() + 1, m.max() + 1, 3), np.uint8)
    out[n, m] = image
    return out


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upright") / "in.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(corners(), format="bgr24")))
        out.mux(stream.encode(None))
    return path


MATRICES = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (-1, 0, 0, -1),
    (0, 1, -1, 0),
    (0, -1, 1, 0),
    (0, 1, 1, 0),
    (0, -1, -1, 0),
]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_all_eight_orientations_become_upright(upright: Path, tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    source = set_display_matrix(upright, tmp_path / "in.mp4", matrix)
    report = convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(crf=1, pix_fmt="yuv444p"))
    expected = transform(corners(), matrix)
    assert (report.width, report.height) == (expected.shape[1], expected.shape[0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame: Any = next(container.decode(video=0))
        assert [entry for entry in frame.side_data if "MATRIX" in str(entry)] == [] and frame.rotation == 0
        np.testing.assert_allclose(frame.to_ndarray(format="bgr24").astype(int), expected.astype(int), atol=12)


def test_conversion_to_bgr_keeps_no_reference_to_the_frame() -> None:
    frame = frame_from_bgr(np.zeros((16, 16, 3), np.uint8), Color(), "yuv420p")
    before = sys.getrefcount(frame)
    BgrConverter(Color())(frame)
    assert sys.getrefcount(frame) == before  # the frame's side data would keep one until the garbage collector runs


def pq_signal(nits: float) -> float:
    """Converts a luminance in cd/m² to its signal in SMPTE ST 2084 (PQ)."""
    y = (nits / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def hlg_signal(light: float) -> float:
    """Converts scene light in [0, 1] to its signal in ARIB STD-B67 (HLG)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return float(np.sqrt(3 * light) if light <= 1 / 12 else a * np.log(12 * light - b) + c)


def make_hdr_video(path: Path, transfer: int, signals: list[float]) -> Path:
    """Writes HEVC with 10 bits in BT.2020; each frame is plain gray with one of the signals."""
    name = {16: "smpte2084", 18: "arib-std-b67"}[transfer]
    tags = f"log-level=error:colorprim=bt2020:transfer={name}:colormatrix=bt2020nc:range=limited"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=25, options={"preset": "ultrafast", "crf": "4", "x265-params": tags})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, transfer
        for index, signal in enumerate(signals):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
            for plane, value in zip(frame.planes, (64 + 876 * signal, 512, 512), strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(value), np.uint16).tobytes())
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_mapped_to_sdr(tmp_path: Path, transfer: int, name: str) -> None:
    if transfer == 16:
        signals = [pq_signal(nits) for nits in (0, 1, 10, 50, 100, 203, 400, 1000)]
    else:  # 0.75 is the signal of HDR's reference white
        signals = [hlg_signal(light) for light in (0, 0.002, 0.01, 0.05, 0.1, 0.265, 0.5, 1)]
    source = make_hdr_video(tmp_path / "in.mp4", transfer, signals)
    report = convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(crf=1))
    assert report.notices == [
        f"HDR ({name}) was mapped to the range of a screen, BT.709",
        "its 10 bits became 8 for the model; the output has 10",
    ]
    with VideoFile(tmp_path / "out.mp4") as video:
        assert video.info.color == SDR == Color(1, 1, 1, 1)
        grays = np.array([frame.image.reshape(-1, 3).mean(0) for frame in video])
    assert np.ptp(grays, axis=1).max() < 3  # no tint
    levels = grays.mean(1)
    assert np.all(np.diff(levels) > 0) and levels[0] < 3 and levels[-1] > 200
    assert 140 < levels[5] < 235  # HDR's reference white becomes a bright gray


@pytest.mark.parametrize("matrix", sorted(SWSCALE_MATRICES))
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p", "yuv444p10le"])
def test_every_matrix_converts_to_yuv_and_back(matrix: int, color_range: int, pix_fmt: str) -> None:
    color = Color(matrix, color_range, 1, 1)
    for bgr in ((200, 30, 60), (20, 180, 90), (40, 60, 220), (255, 255, 255), (0, 0, 0), (127, 128, 129)):
        image = np.full((16, 16, 3), bgr, np.uint8)
        frame = frame_from_bgr(image, color, pix_fmt)
        assert (frame.colorspace, frame.color_range) == (matrix, color_range)
        np.testing.assert_allclose(BgrConverter(color)(frame)[8, 8].astype(int), bgr, atol=2)


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (9, 0.2627, 0.0593)])
def test_luma_follows_the_standard(matrix: int, kr: float, kb: float) -> None:
    for blue, green, red in ((200, 30, 60), (20, 180, 90), (40, 60, 220)):
        frame = frame_from_bgr(np.full((16, 16, 3), (blue, green, red), np.uint8), Color(matrix, 1, 1, 1), "yuv444p")
        luma = kr * red + kb * blue + (1 - kr - kb) * green
        assert np.frombuffer(bytes(frame.planes[0]), np.uint8)[0] == pytest.approx(16 + 219 * luma / 255, abs=1)


def test_the_color_description_of_the_output() -> None:
    assert output_color(Color(9, 1, 9, 16)) == output_color(Color(9, 1, 9, 18)) == SDR
    assert output_color(Color(9, 1, 9, 14)) == Color(9, 1, 9, 14)
    assert output_color(Color(2, 2, 1, 13)) == Color(2, 2, 1, 13)
    assert output_color(Color(10, 1, 9, 14)) == Color(9, 1, 9, 14)
    for rgb in (output_color(Color(0, 2, 1, 13)), output_color(Color(2, 2, 1, 13), is_rgb=True)):
        assert rgb == Color(1, 1, 1, 13)  # the matrix of the encoder, so that no player has to guess


def test_a_matrix_without_swscale_support_falls_back_or_is_an_error() -> None:
    image = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    frame = frame_from_bgr(image, Color(9, 1, 9, 14), "yuv444p")
    frame.colorspace = 10  # constant luminance falls back to 9
    np.testing.assert_allclose(BgrConverter(Color(10, 1, 9, 14))(frame)[8, 8].astype(int), image[8, 8], atol=2)
    frame.colorspace = 8
    with pytest.raises(InputError, match=r"is not supported \(matrix 8 of ITU-T H.273\)"):
        BgrConverter(Color(8, 1, 1, 1))(frame)
