"""EXIF, color profile and XMP are kept in every format that can hold them; what is lost is reported."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from cyclecast.video.files.images import Still, read_still, write_still
from tests.conftest import shared
from tests.video.clips import mean_difference
from tests.video.files.test_images import ALPHA, IMAGE, encode, exif, png, read

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


def profile(space: bytes = b"RGB ", size: int = 600) -> bytes:
    """An ICC profile that libpng accepts: a header without tags."""
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x3I", size, b"", 0x02400000, b"mntr", space, b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D
    )
    return header + bytes(132 - len(header)) + np.random.default_rng(0).bytes(size - 132)


def opencv_metadata(path: Path) -> dict[int, bytes]:
    _, types, values = cv2.imdecodeWithMetadata(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return {type_: np.asarray(value).tobytes() for type_, value in zip(types, values, strict=True)}


@pytest.mark.parametrize("order", "<>")
def test_written_exif_is_upright_and_has_no_thumbnail(tmp_path: Path, order: str) -> None:
    still = read(tmp_path, "in.jpg", encode(".jpg", IMAGE, exif=exif(6, order), xmp=XMP))
    write_still(tmp_path / "out.jpg", still)
    written = opencv_metadata(tmp_path / "out.jpg")[0]
    expected = exif(1, order).replace(b"THUMBNAI", bytes(8))
    assert written == expected[:34] + bytes(4) + expected[38:]  # without the link to the thumbnail; all else is unchanged
    assert read(tmp_path, "in.webp", encode(".webp", IMAGE, xmp=XMP)).xmp == XMP.replace(b'"6"', b'"1"')


@pytest.mark.parametrize(
    "junk", [b"", b"II*\0", b"MM\0*\0\0\0\xff", b"II*\0\x08\0\0\0\xff\xff", bytes(40), exif(0), exif(9), exif(6)[:20]]
)
def test_invalid_exif_does_not_rotate_the_image(tmp_path: Path, junk: bytes) -> None:
    still = read(tmp_path, "in.png", png(IMAGE[..., ::-1], 2, (b"eXIf", junk)))
    assert mean_difference(still.image, IMAGE) == 0


SUPPORTED = {  # suffix -> fields of `Still`
    ".jpg": "exif icc xmp",
    ".png": "alpha exif icc xmp",
    ".webp": "alpha exif icc xmp",
    ".tiff": "alpha icc xmp",
    ".bmp": "alpha",
}
NAMES = {"alpha": "transparency", "exif": "EXIF", "icc": "color profile", "xmp": "XMP"}


@pytest.mark.parametrize("suffix", SUPPORTED)
@pytest.mark.parametrize("size", [600, 150_000])
def test_what_a_format_supports_is_kept_and_the_rest_is_reported(tmp_path: Path, suffix: str, size: int) -> None:
    still = Still(IMAGE, ALPHA, exif(1), profile(size=size), XMP.replace(b"6", b"1"))
    path = tmp_path / f"out{suffix}"
    lost = write_still(path, still)
    again = read_still(path)
    for field, name in NAMES.items():
        before, after = getattr(still, field), getattr(again, field)
        if field in SUPPORTED[suffix].split():
            if field == "exif":
                assert after[:34] == before[:34]
            else:
                assert np.array_equal(after, before)
        else:
            assert after is None
        assert (field in SUPPORTED[suffix].split()) != any(line.startswith(f"{name} (") for line in lost), lost
    assert mean_difference(again.image, IMAGE) < (0.001 if suffix in (".png", ".tiff", ".bmp") else 3)
    if suffix in (".jpg", ".png", ".webp"):  # as OpenCV reads it
        metadata = opencv_metadata(path)
        assert metadata[0][:34] == exif(1)[:34] and metadata[2] == still.icc
        assert XMP.replace(b"6", b"1") in metadata[1]
    opencv_image = cv2.imread(str(path))
    assert opencv_image is not None and opencv_image.shape == IMAGE.shape


def test_exif_too_long_for_jpeg_is_reported(tmp_path: Path) -> None:
    still = Still(IMAGE, exif=exif(1) + bytes(70_000), xmp=bytes(70_000))
    lost = write_still(tmp_path / "out.jpg", still)
    assert lost == [f"EXIF (too long for .jpg: {70_076} bytes)", "XMP (too long for .jpg: 70000 bytes)"]
    assert read_still(tmp_path / "out.jpg").exif is None
    assert write_still(tmp_path / "out.png", Still(IMAGE, exif=exif(1) + bytes(70_000))) == []


def test_a_color_profile_for_other_colors_is_left_out_and_reported(tmp_path: Path) -> None:
    still = read(tmp_path, "gray.png", png(ALPHA, 0, (b"iCCP", b"x\0\0" + zlib.compress(profile(b"GRAY")))))
    assert still.icc is None and still.notes == ("a color profile for GRAY was left out",)
    assert read(tmp_path, "rgb.png", encode(".png", IMAGE, icc=profile())).icc == profile()


def test_metadata_after_the_pixels_of_a_png_is_read(tmp_path: Path) -> None:
    data = png(IMAGE[..., ::-1], 2)
    for name, payload in ((b"eXIf", exif(6)), (b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP)):
        chunk = struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
        data = data[:-12] + chunk + data[-12:]
    still = read(tmp_path, "late.png", data)
    assert still.exif is not None and still.xmp == XMP.replace(b'"6"', b'"1"')
    assert still.image.shape == (40, 28, 3)  # rotated


def test_a_big_tiff_keeps_its_colors_and_its_transparency() -> None:
    still = read_still(shared("faults/footage/bigalpha.tif"))
    assert still.alpha is not None and not still.damage
    with PillowImage.open(shared("faults/footage/bigalpha.tif")) as pillow_image:
        assert mean_difference(still.image, np.asarray(pillow_image.convert("RGBA"))[..., 2::-1]) < 1


def test_a_cameras_maker_notes_keep_their_offset(tmp_path: Path) -> None:
    """Maker notes hold offsets from the start of the EXIF block, so moving them within the block would break them."""
    block = exif(6) + b"MAKERNOTE AT 76"
    write_still(tmp_path / "out.jpg", read(tmp_path, "in.jpg", encode(".jpg", IMAGE, exif=block)))
    written = read_still(tmp_path / "out.jpg").exif
    assert written is not None and written.index(b"MAKERNOTE AT 76") == 76
