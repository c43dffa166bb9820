"""EXIF, color profile and XMP are kept in every format that can hold them; what is lost is reported."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from cyclecast.video.files.image_encoding import Still
from cyclecast.video.files.images import read_still, write_still
from cyclecast.video.files.xmp import without_pointers
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


IPTC = b"\x1c\x02\x05\0\x05Title\x1c\x02\x19\0\x04lake"  # an odd number of bytes
RICH = Still(IMAGE, iptc=IPTC, dpi=(300, 150), texts={"Comment": "dawn \N{SNOWMAN}", "parameters": "a tree\nSteps: 40"})
LEFT_OUT = {  # suffix -> what it cannot hold of `RICH`
    ".jpg": ["text: parameters (.jpg has none)"],
    ".png": ["IPTC (.png has none)"],
    ".tif": ["text: Comment, parameters (.tif has none)"],
    ".webp": [
        "IPTC (.webp has none)",
        "the resolution of 300 dpi (.webp has none)",
        "text: Comment, parameters (.webp has none)",
    ],
    ".bmp": ["IPTC (.bmp has none)", "the resolution of 300 dpi (.bmp has none)", "text: Comment, parameters (.bmp has none)"],
}


@pytest.mark.parametrize("suffix", LEFT_OUT)
def test_iptc_resolution_and_text_are_kept_or_reported(tmp_path: Path, suffix: str) -> None:
    left_out = LEFT_OUT[suffix]
    assert write_still(tmp_path / f"out{suffix}", RICH) == left_out
    again = read_still(tmp_path / f"out{suffix}")
    assert again.iptc == (None if any(line.startswith("IPTC") for line in left_out) else IPTC)
    if any("resolution" in line for line in left_out):
        assert again.dpi is None
    else:
        assert again.dpi == pytest.approx((300, 150), rel=0.001)
    kept = {"Comment": "dawn \N{SNOWMAN}"} if suffix == ".jpg" else dict(RICH.texts) if suffix == ".png" else {}
    assert again.texts == kept


def test_text_after_the_pixels_and_comments_that_are_no_utf_8_are_read(tmp_path: Path) -> None:
    payload = b"parameters\0late"
    chunk = struct.pack(">I", len(payload)) + b"tEXt" + payload + struct.pack(">I", zlib.crc32(b"tEXt" + payload))
    data = png(IMAGE[..., ::-1], 2)
    assert read(tmp_path, "late.png", data[:-12] + chunk + data[-12:]).texts == {"parameters": "late"}
    PillowImage.fromarray(IMAGE).save(tmp_path / "latin.jpg", comment="Grüße".encode("latin-1"))
    assert read_still(tmp_path / "latin.jpg").texts == {"Comment": "Grüße"}


def test_the_resolution_turns_with_the_image(tmp_path: Path) -> None:
    PillowImage.fromarray(IMAGE).save(tmp_path / "in.jpg", dpi=(300, 150), exif=b"Exif\0\0" + exif(6))
    assert read_still(tmp_path / "in.jpg").dpi == (150, 300)
    PillowImage.fromarray(IMAGE).save(tmp_path / "none.jpg")  # 1:1 without a unit
    assert read_still(tmp_path / "none.jpg").dpi is None


MOTION = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:Cam="http://ns.google.com/photos/1.0/camera/" xmlns:C="http://ns.google.com/photos/1.0/container/"
 xmlns:I="http://ns.google.com/photos/1.0/container/item/" xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:n="http://ns.adobe.com/xmp/note/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 g:Version="1.0" Cam:MotionPhoto="1" Cam:BurstID="abc" n:HasExtendedXMP="0123">
 <Cam:MicroVideoOffset>48025</Cam:MicroVideoOffset><C:Directory><rdf:Seq><rdf:li I:Semantic="MotionPhoto" I:Length="9"/>
 </rdf:Seq></C:Directory><g:GainMapMax><rdf:Seq><rdf:li>1</rdf:li></rdf:Seq></g:GainMapMax><dc:title>A lake \N{SNOWMAN}</dc:title>
 </rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def test_xmp_does_not_point_to_what_is_left_out(tmp_path: Path) -> None:
    file = io.BytesIO()
    PillowImage.fromarray(IMAGE[..., 2::-1]).save(file, "JPEG", xmp=MOTION.encode())  # OpenCV leaves out the segment's name
    still = read(tmp_path, "in.jpg", file.getvalue())
    assert still.notes == ("XMP about a motion photo, gain map or depth map was removed, as these are left out",)
    xmp = (still.xmp or b"").decode()
    for word in ("MotionPhoto", "MicroVideo", "Directory", "GainMap", "hdr-gain-map", "HasExtendedXMP"):
        assert word not in xmp, word
    assert 'Cam:BurstID="abc"' in xmp and "A lake \N{SNOWMAN}" in xmp
    assert xmp.startswith('<?xpacket begin="\ufeff"') and xmp.endswith('<?xpacket end="w"?>')


@pytest.mark.parametrize("xmp", [XMP, MOTION.encode()[:-60], b"<!DOCTYPE x>" + MOTION.encode(), MOTION[:200].encode("utf-16")])
def test_xmp_without_pointers_or_malformed_stays_as_it_is(xmp: bytes) -> None:
    assert without_pointers(xmp) == xmp


@pytest.mark.parametrize("name", ["iptc.jpg", "a1111.png", "motion.jpg"])
def test_the_metadata_of_the_issue(tmp_path: Path, name: str) -> None:
    before = read_still(shared(f"faults/footage/{name}"))
    assert write_still(tmp_path / name, before) == []
    after = read_still(tmp_path / name)
    assert (after.iptc, after.texts, after.xmp) == (before.iptc, before.texts, before.xmp)
    assert before.dpi is not None and after.dpi == pytest.approx(before.dpi, rel=0.001)
    assert b"MotionPhoto" not in (after.xmp or b"") and (name != "iptc.jpg" or after.iptc)


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
