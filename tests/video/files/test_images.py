"""Image files are read upright with transparency and metadata; what is lost or damaged is reported."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from cyclecast.errors import InputError, OutputError
from cyclecast.training.data.images import decode as decode_for_training
from cyclecast.video.files.image_encoding import Still
from cyclecast.video.files.images import read_image, read_still, write_image, write_still
from cyclecast.video.files.jpeg_end import lacks_only_end
from cyclecast.video.frame import Image
from tests.conftest import moving_frames, shared
from tests.video.clips import mean_difference

IMAGE = moving_frames(1, 40, 28)[0]
ALPHA = np.arange(40 * 28).reshape(28, 40).astype(np.uint8) | np.uint8(1)  # libwebp blackens what is fully transparent
UPRIGHT: dict[
    int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
] = {  # EXIF orientation -> the function that turns an image upright
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: np.rot90(image, 2),
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block with the width, the orientation and a thumbnail of eight bytes."""
    header = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(order + "HHHIIHHIHHI", 2, 256, 4, 1, 4000, 0x112, 3, 1, orientation, 0, 38)
    second = struct.pack(order + "HHHIIHHIII", 2, 0x201, 4, 1, 68, 0x202, 4, 1, 8, 0)
    return header + struct.pack(order + "I", 8) + first + second + b"THUMBNAI"


def encode(suffix: str, pixels: NDArray[Any], **metadata: bytes) -> bytes:
    """Encodes with OpenCV, metadata included; without loss except for JPEG."""
    types = {"exif": 0, "xmp": 1, "icc": 2}  # cv2.IMAGE_METADATA_…
    settings = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    if not metadata:
        return cv2.imencode(suffix, pixels, settings)[1].tobytes()
    values = [np.frombuffer(value, np.uint8) for value in metadata.values()]
    return cv2.imencodeWithMetadata(suffix, pixels, [types[name] for name in metadata], values, settings)[1].tobytes()


def png(pixels: NDArray[np.uint8], color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Encodes a PNG with 8 bits a channel, also in the color types that OpenCV cannot write."""
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, color_type, 0, 0, 0)
    all_chunks = ((b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in all_chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    pixels: NDArray[Any], photometric: int = 2, order: Literal["<", ">"] = "<", sample_format: int = 1, **tags: int
) -> bytes:
    """Encodes an uncompressed TIFF, RGB or gray. sample_format 3: floating point. tags: 16-bit values, such as t338=2."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits = pixels.dtype.itemsize * 8
    entries = {256: [pixels.shape[1]], 257: [pixels.shape[0]], 258: [bits] * channels, 259: [1], 262: [photometric], 273: [8]}
    entries |= {277: [channels], 278: [pixels.shape[0]], 279: [pixels.nbytes], 339: [sample_format] * channels}
    entries |= {int(name[1:]): [value] for name, value in tags.items()}
    out = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    start = 8 + len(out)
    beyond, packed = start + 6 + 12 * len(entries), b""
    ifd = struct.pack(order + "H", len(entries))
    for tag, values in sorted(entries.items()):
        value = struct.pack(f"{order}{len(values)}H", *values)
        if len(value) > 4:
            value, packed = struct.pack(order + "I", beyond + len(packed)), packed + value
        ifd += struct.pack(order + "HHI", tag, 3, len(values)) + value.ljust(4, b"\0")
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start) + out + ifd + bytes(4) + packed


def big_tiff(pixels: NDArray[Any], order: Literal["<", ">"], meaning: int) -> bytes:
    """Encodes an uncompressed BigTIFF of RGBA. meaning: of its alpha, by tag 338."""
    height, width, channels = pixels.shape
    entries = {256: [width], 257: [height], 258: [pixels.dtype.itemsize * 8] * 4, 259: [1], 262: [2], 273: [16]}
    entries |= {277: [channels], 278: [height], 279: [pixels.nbytes], 338: [meaning]}
    out = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ifd = struct.pack(order + "Q", len(entries))
    for tag, values in sorted(entries.items()):
        ifd += struct.pack(order + "HHQ", tag, 3, len(values)) + struct.pack(f"{order}{len(values)}H", *values).ljust(8, b"\0")
    return (b"II+\0" if order == "<" else b"MM\0+") + struct.pack(order + "HHQ", 8, 0, 16 + len(out)) + out + ifd + bytes(8)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("meaning", [0, 1, 2])
def test_a_big_tiff_with_transparency_is_not_darkened(
    tmp_path: Path, meaning: int, order: Literal["<", ">"], depth: type[np.integer[Any]]
) -> None:
    alpha = ALPHA // 2 + 128
    color = np.rint(IMAGE * (alpha / 255)[..., None]) if meaning == 1 else IMAGE  # 1: multiplied by the alpha
    scale = np.iinfo(depth).max // 255
    pixels = np.dstack([color[..., ::-1], alpha]).astype(depth) * depth(scale)
    still = read(tmp_path, "big.tif", big_tiff(pixels, order, meaning))
    assert still.alpha is not None and (still.alpha == alpha).all()
    assert mean_difference(still.image, IMAGE) < 1


def test_the_big_tiff_of_the_issue_keeps_its_colors(tmp_path: Path) -> None:
    source = shared("faults/footage/bigalpha.tif")
    still = read_still(source)
    with PillowImage.open(source) as image:
        assert still.alpha is not None and (np.dstack([still.image[..., ::-1], still.alpha]) == np.asarray(image)).all()


def read(folder: Path, name: str, data: bytes) -> Still:
    (folder / name).write_bytes(data)
    return read_still(folder / name)


def test_photos_of_every_orientation_are_read_upright() -> None:
    photos = [read_still(shared(f"media/images/Landscape_{orientation}.jpg")).image[::8, ::8] for orientation in range(9)]
    first = photos[0]
    assert all(mean_difference(photo, first) < 6 for photo in photos)  # nine encodings of one photo
    assert min(mean_difference(first[::-1], first), mean_difference(first[:, ::-1], first)) > 20


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_orientation_is_applied_once_to_color_and_alpha(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = IMAGE if suffix == ".jpg" else np.dstack([IMAGE, ALPHA])
    is_tiff = suffix == ".tiff"
    data = (
        tiff(pixels[..., [2, 1, 0, 3]], t274=orientation, t338=2) if is_tiff else encode(suffix, pixels, exif=exif(orientation))
    )
    still = read(tmp_path, f"turned{suffix}", data)
    assert mean_difference(still.image, UPRIGHT[orientation](IMAGE)) < (4 if suffix == ".jpg" else 0.001)
    if suffix != ".jpg":
        assert still.alpha is not None and mean_difference(still.alpha, UPRIGHT[orientation](ALPHA)) == 0
    assert write_still(tmp_path / "again.png", still) == []
    opencvs = cv2.imread(str(tmp_path / "again.png"))
    assert opencvs is not None and mean_difference(np.asarray(opencvs, np.uint8), still.image) == 0


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path, suffix: str) -> None:
    all_values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(all_values / 257)
    still = read(tmp_path, f"deep{suffix}", encode(suffix, all_values))
    assert still.notes == ("16 bits a channel became 8",)
    assert all((still.image[..., channel] == expected).all() for channel in range(3))
    colors = read(
        tmp_path, f"deep4{suffix}", encode(suffix, np.dstack([all_values, all_values.T, all_values[::-1], all_values[:, ::-1]]))
    )
    assert (colors.image[..., 1] == expected.T).all() and colors.alpha is not None
    assert (colors.alpha == expected[:, ::-1]).all()


def test_gray_and_palette_images_are_read(tmp_path: Path) -> None:
    gray = read(tmp_path, "gray.png", encode(".png", ALPHA))
    assert gray.image.shape == (28, 40, 3) and (gray.image == ALPHA[..., None]).all() and gray.notes == ()
    both = read(tmp_path, "both.png", png(np.dstack([ALPHA, ALPHA[::-1]]), 4))
    assert (both.image == ALPHA[..., None]).all() and np.array_equal(both.alpha, ALPHA[::-1])  # type: ignore[arg-type]
    palette = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)  # RGB
    indices = (ALPHA > 90).astype(np.uint8)
    plain = read(tmp_path, "palette.png", png(indices, 3, (b"PLTE", palette.tobytes())))
    assert (plain.image == palette[indices][..., ::-1]).all() and plain.alpha is None
    holes = read(tmp_path, "holes.png", png(indices, 3, (b"PLTE", palette.tobytes()), (b"tRNS", b"\x40")))
    assert np.array_equal(holes.alpha, np.where(indices == 0, 64, 255))  # type: ignore[arg-type]
    pair = np.dstack([ALPHA, ALPHA[::-1]])
    both = read(tmp_path, "both.tiff", tiff(pair, 1, t338=2))
    assert (both.image == ALPHA[..., None]).all() and np.array_equal(both.alpha, ALPHA[::-1])  # type: ignore[arg-type]
    lost = read(tmp_path, "lost.tiff", tiff(pair.astype(np.uint16) * np.uint16(257), 1, t338=2))
    assert lost.notes == ("16 bits a channel became 8", "the transparency of this gray image could not be read")


def test_an_opaque_image_has_no_alpha(tmp_path: Path) -> None:
    still = read(tmp_path, "opaque.png", encode(".png", np.dstack([IMAGE, np.full_like(ALPHA, 255)])))
    assert still.alpha is None and write_still(tmp_path / "out.jpg", still) == []


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_colors_of_a_tiff_do_not_depend_on_its_alpha_type_or_photometric(
    tmp_path: Path, depth: type[np.integer[Any]], order: Literal["<", ">"]
) -> None:
    alpha = np.maximum(ALPHA, 8)
    hidden = np.where(ALPHA < 128, 0, ALPHA)
    scale = np.iinfo(depth).max // 255
    straight = np.dstack([IMAGE[..., ::-1], hidden]).astype(depth) * depth(scale)
    assert mean_difference(read(tmp_path, "straight.tiff", tiff(straight, order=order, t338=2)).image, IMAGE) == 0
    times_alpha = np.dstack([np.rint(IMAGE[..., ::-1] * (alpha / 255.0)[..., None] * scale), alpha * float(scale)]).astype(depth)
    multiplied = read(tmp_path, "multiplied.tiff", tiff(times_alpha, order=order, t338=1))
    assert np.array_equal(multiplied.alpha, alpha) and mean_difference(multiplied.image, IMAGE) < 1.5  # type: ignore[arg-type]
    white = read(tmp_path, "white.tiff", tiff((255 - ALPHA).astype(depth) * depth(scale), 0, order))
    assert mean_difference(white.image[..., 0], ALPHA) == 0


def test_a_cmyk_photo_becomes_rgb() -> None:
    still = read_still(shared("media/broken/pil_sample_cmyk.jpg"))
    assert still.notes == ("CMYK became RGB",)
    pillows = [[[9.5, 6.7, 55.8], [7.9, 5.7, 35.6]], [[6.3, 4.8, 17.2], [5.9, 4.6, 12.3]]]
    assert np.abs(still.image.reshape(2, 50, 2, 50, 3).mean((1, 3)) - pillows).max() < 2


@pytest.mark.parametrize(("depth", "sample_format"), [(np.float32, 3), (np.float64, 3), (np.int16, 2), (np.uint32, 1)])
def test_a_tiff_of_signed_or_floating_point_values_is_an_error(
    tmp_path: Path, depth: type[np.generic], sample_format: int
) -> None:
    with pytest.raises(InputError, match=rf"odd\.tiff: holds {depth.__name__} values; expected 8 or 16 bits"):
        read(tmp_path, "odd.tiff", tiff(ALPHA.astype(depth), 1, sample_format=sample_format))


@pytest.mark.parametrize("suffix", [".tiff", ".webp", ".png"])
def test_the_first_of_several_images_is_read(tmp_path: Path, suffix: str) -> None:
    images: Sequence[Image] = [IMAGE, 255 - IMAGE, IMAGE]
    path = tmp_path / f"many{suffix}"
    if suffix == ".tiff":
        cv2.imwritemulti(str(path), images)
    else:
        animation = cv2.Animation()
        animation.frames, animation.durations = images, [100, 100, 100]
        cv2.imwriteanimation(str(path), animation)
    still = read_still(path)
    assert still.notes == ("the first of several images",)
    assert mean_difference(still.image, IMAGE) < 4


@pytest.mark.parametrize("settings", [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_whole(tmp_path: Path, mode: str, settings: dict[str, Any]) -> None:
    file = io.BytesIO()
    PillowImage.fromarray(moving_frames(1, 121, 81)[0]).convert(mode).save(file, "JPEG", quality=95, **settings)
    data = file.getvalue()
    whole = read(tmp_path, "whole.jpg", data).image
    for end in (data[:-2], data[:-1], data[:-2] + bytes(512)):  # also in a file that is padded with zeros
        still = read(tmp_path, "cut.jpg", end)
        assert still.damage is None and (still.image == whole).all()
    first = data.index(b"\xff\xda") + 2
    markers = [first + match.start() for match in re.finditer(rb"\xff[\xda\xc4\xd0-\xd7]", data[first:])]
    for at in (*range(len(data) - 40, len(data) - 3), *markers):
        assert not lacks_only_end(data[:at]) or (read(tmp_path, "cut.jpg", data[:at]).image == whole).all(), at
    assert not lacks_only_end(data[: len(data) * 2 // 3])


def test_the_jpeg_of_the_issue_is_whole() -> None:
    assert read_still(shared("faults/footage/noeoi.jpg")).damage is None


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_truncated_jpeg_is_read_and_reported(tmp_path: Path, progressive: int) -> None:
    image = moving_frames(1, 320, 240)[0]
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    still = read(tmp_path, "cut.jpg", data[: len(data) * 2 // 3])
    assert still.damage == "the file ends before its image does; what is missing is gray or coarse"
    whole = read(tmp_path, "whole.jpg", data + b"and something behind it")
    assert whole.damage is None and mean_difference(still.image[:64], whole.image[:64]) < 4
    with pytest.raises(InputError, match=r"cut\.jpg: cannot be read as an image: the file ends"):
        read_image(tmp_path / "cut.jpg")
    with pytest.raises(InputError, match=r"head\.jpg: cannot be read as an image$"):
        read(tmp_path, "head.jpg", data[: data.index(b"\xff\xda")])


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".bmp"])
def test_other_truncated_files_are_an_error_in_one_line(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(suffix, IMAGE)
    for end in (0, 3, 20, len(data) // 4, len(data) // 2, len(data) - 1):
        with pytest.raises(InputError, match=rf"cut\{suffix}: cannot be read as an image$"):
            read(tmp_path, f"cut{suffix}", data[:end])
    assert [line for line in capfd.readouterr().err.splitlines() if not line.startswith("libpng")] == []


def test_a_flipped_bit_in_a_png_is_an_error(tmp_path: Path) -> None:
    data = bytearray(encode(".png", IMAGE))
    data[len(data) // 2] ^= 1
    with pytest.raises(InputError, match=r"flipped\.png: cannot be read as an image$"):
        read(tmp_path, "flipped.png", bytes(data))


def test_broken_files_are_an_error_in_one_line_or_have_their_damage_reported() -> None:
    whole = {"hopper.jpg", "pil_sample_cmyk.jpg", "truncated_jpeg.jpg"}  # the last one lacks only half of its end marker
    damaged = []
    for path in sorted(shared("media/broken").iterdir()):
        try:
            damaged += [path.name] if read_still(path).damage else []
        except InputError as error:
            size = ": its header states 4294967169x64 pixels; the limit is 268435456" if path.name == "badwidth.bmp" else ""
            assert str(error) == f"{path}: cannot be read as an image{size}"
            damaged.append(path.name)
    assert set(damaged) == {p.name for p in shared("media/broken").iterdir()} - whole


def claims(suffix: str, width: int, height: int) -> bytes:
    """Builds a small file of this format whose header states this size."""
    if suffix == ".png":
        data = bytearray(png(ALPHA, 0))
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif suffix == ".jpg":
        data = bytearray(encode(suffix, IMAGE))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif suffix == ".bmp":
        data = bytearray(encode(suffix, IMAGE))
        data[18:26] = struct.pack("<ii", width, height)
    else:  # little-endian TIFF; both tags as LONG
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
        data = bytearray(b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags))
        data += b"\0\0\0\0"
    return bytes(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("name", ["honest", "misleading.png"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, suffix: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("it is decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    monkeypatch.setattr(PillowImage.Image, "load", decode)
    path = name if name != "honest" else f"bomb{suffix}"
    with pytest.raises(InputError, match=r"its header states 30000x30000 pixels; the limit is 268435456$"):
        read(tmp_path, path, claims(suffix, 30_000, 30_000))
    assert decode_for_training(tmp_path / path, cv2.IMREAD_COLOR) is None


def test_formats_whose_size_is_unknown_are_not_decoded(tmp_path: Path) -> None:
    """OpenCV would decode them, whatever the name of the file says."""
    with pytest.raises(InputError, match=r"radiance\.png: cannot be read as an image$"):
        read(tmp_path, "radiance.png", cv2.imencode(".hdr", IMAGE.astype(np.float32))[1].tobytes())


def test_an_image_beyond_the_limit_of_pillow_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    assert read(tmp_path, "a.png", encode(".png", IMAGE)).image.shape == IMAGE.shape
    assert PillowImage.MAX_IMAGE_PIXELS == 100


def test_jpegs_have_full_color_resolution(tmp_path: Path) -> None:
    write_still(tmp_path / "still.jpg", Still(IMAGE))
    write_image(tmp_path / "image.jpeg", IMAGE)
    for name in ("still.jpg", "image.jpeg"):
        data = (tmp_path / name).read_bytes()
        at = data.index(b"\xff\xc0")
        assert [data[at + 11 + 3 * channel] for channel in range(3)] == [0x11, 0x11, 0x11]


def test_an_image_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no image format of that name; there are: \.bmp, "):
        write_still(tmp_path / "out.xyz", Still(IMAGE))
    with pytest.raises(OutputError, match=r"an image of 16400x2 cannot be encoded as \.webp"):
        write_still(tmp_path / "out.webp", Still(np.zeros((2, 16400, 3), np.uint8)))
    with pytest.raises(OutputError, match=r"cannot be written \(No such file or directory\)"):
        write_still(tmp_path / "nowhere" / "out.png", Still(IMAGE))
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        read_still(tmp_path / "gone.png")
