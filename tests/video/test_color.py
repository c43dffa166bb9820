"""Colors and orientation: what a stream says of them is believed, once, and the output says what is true of it."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.color import MATRICES, SDR, ToBgr, delivered, from_bgr
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Color, Image
from tests.conftest import Same

WIDTH, HEIGHT = 64, 48


def corners() -> Image:
    """Another color in each corner, dark elsewhere."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    image[:16, :16], image[:16, -16:], image[-16:, :16] = (30, 30, 220), (40, 200, 40), (220, 60, 40)
    return image


def turned(source: Path, output: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The film with a, b, c and d of its track's display matrix (ISO 14496-12, 8.3.2) written over."""
    data = bytearray(source.read_bytes())
    place = data.find(b"tkhd") + 4 + 40
    for number, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[place + 4 * number : place + 4 * number + 4] = (value << 16).to_bytes(4, "big", signed=True)
    output.write_bytes(data)
    return output


def seen(image: Image, matrix: tuple[int, int, int, int]) -> Image:
    """What a player shows: the pixel at (p, q) goes to (a p + c q, b p + d q)."""
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


MATRIX = [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("matrix", MATRIX, ids=str)
def test_all_eight_orientations_come_out_upright(upright: Path, tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    source = turned(upright, tmp_path / "in.mp4", matrix)
    report = convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(crf=1, pix_fmt="yuv444p"))
    expected = seen(corners(), matrix)
    assert (report.width, report.height) == (expected.shape[1], expected.shape[0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame: Any = next(container.decode(video=0))
        assert [kind for kind in frame.side_data if "MATRIX" in str(kind)] == [] and frame.rotation == 0
        np.testing.assert_allclose(frame.to_ndarray(format="bgr24").astype(int), expected.astype(int), atol=12)


def test_nothing_holds_a_frame_once_it_is_upright() -> None:
    frame = from_bgr(np.zeros((16, 16, 3), np.uint8), Color(), "yuv420p")
    before = sys.getrefcount(frame)
    ToBgr(Color())(frame)
    assert sys.getrefcount(frame) == before  # its own side data would, until the garbage collector comes


def pq(nits: float) -> float:
    """SMPTE ST 2084's signal for a luminance."""
    y = (nits / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def hlg(light: float) -> float:
    """ARIB STD-B67's signal for scene light in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return float(np.sqrt(3 * light) if light <= 1 / 12 else a * np.log(12 * light - b) + c)


def hdr(path: Path, transfer: int, signals: list[float]) -> Path:
    """HEVC, 10 bit, BT.2020: a plain gray of each signal."""
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
def test_hdr_is_mapped_to_the_range_of_a_screen(tmp_path: Path, transfer: int, name: str) -> None:
    if transfer == 16:
        signals = [pq(nits) for nits in (0, 1, 10, 50, 100, 203, 400, 1000)]
    else:  # where 0.75 is HDR's white
        signals = [hlg(light) for light in (0, 0.002, 0.01, 0.05, 0.1, 0.265, 0.5, 1)]
    source = hdr(tmp_path / "in.mp4", transfer, signals)
    report = convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(crf=1))
    assert report.notices == [f"HDR ({name}) was mapped to the range of a screen, BT.709"]
    with VideoFile(tmp_path / "out.mp4") as video:
        assert video.info.color == SDR == Color(1, 1, 1, 1)
        grays = np.array([frame.image.reshape(-1, 3).mean(0) for frame in video])
    assert np.ptp(grays, axis=1).max() < 3  # no tint
    levels = grays.mean(1)
    assert np.all(np.diff(levels) > 0) and levels[0] < 3 and levels[-1] > 200
    assert 140 < levels[5] < 235  # what HDR calls white is a bright gray, with room above


@pytest.mark.parametrize("matrix", sorted(MATRICES))
@pytest.mark.parametrize("span", [1, 2])
@pytest.mark.parametrize("form", ["yuv444p", "yuv420p", "yuv444p10le"])
def test_to_yuv_and_back_by_every_matrix(matrix: int, span: int, form: str) -> None:
    color = Color(matrix, span, 1, 1)
    for bgr in ((200, 30, 60), (20, 180, 90), (40, 60, 220), (255, 255, 255), (0, 0, 0), (127, 128, 129)):
        image = np.full((16, 16, 3), bgr, np.uint8)
        frame = from_bgr(image, color, form)
        assert (frame.colorspace, frame.color_range) == (matrix, span)
        np.testing.assert_allclose(ToBgr(color)(frame)[8, 8].astype(int), bgr, atol=2)


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (9, 0.2627, 0.0593)])
def test_brightness_is_the_standard_s(matrix: int, kr: float, kb: float) -> None:
    for blue, green, red in ((200, 30, 60), (20, 180, 90), (40, 60, 220)):
        frame = from_bgr(np.full((16, 16, 3), (blue, green, red), np.uint8), Color(matrix, 1, 1, 1), "yuv444p")
        luma = kr * red + kb * blue + (1 - kr - kb) * green
        assert np.frombuffer(bytes(frame.planes[0]), np.uint8)[0] == pytest.approx(16 + 219 * luma / 255, abs=1)


def test_what_the_output_says_of_its_colors() -> None:
    assert delivered(Color(9, 1, 9, 16)) == delivered(Color(9, 1, 9, 18)) == SDR
    assert delivered(Color(9, 1, 9, 14)) == Color(9, 1, 9, 14)
    assert delivered(Color(2, 2, 1, 13)) == Color(2, 2, 1, 13)
    assert delivered(Color(10, 1, 9, 14)) == Color(9, 1, 9, 14)
    for rgb in (delivered(Color(0, 2, 1, 13)), delivered(Color(2, 2, 1, 13), is_rgb=True)):
        assert rgb == Color(1, 1, 1, 13)  # what it was encoded with is not left to a player's guess


def test_matrices_that_swscale_refuses() -> None:
    image = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    frame = from_bgr(image, Color(9, 1, 9, 14), "yuv444p")
    frame.colorspace = 10  # constant luminance is next to it
    np.testing.assert_allclose(ToBgr(Color(10, 1, 9, 14))(frame)[8, 8].astype(int), image[8, 8], atol=2)
    frame.colorspace = 8
    with pytest.raises(InputError, match=r"not known here \(matrix 8 of ITU-T H.273\)"):
        ToBgr(Color(8, 1, 1, 1))(frame)
