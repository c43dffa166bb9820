"""EXIF, color profile and XMP of image files.

Pillow reads and writes them. Two things remain here, because Pillow cannot do them: changing the orientation inside an EXIF
block without writing the block anew, which would break the offsets in a camera's maker notes, and the reason why a format
does not hold something.
"""

from __future__ import annotations

import io
import logging
import struct
from dataclasses import dataclass, field

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from cyclecast.image_formats import LARGEST_PIXELS, quiet_pillow, tiff_tags

log = logging.getLogger(__name__)
EXIF_MARK = b"Exif\0\0"
LARGEST_SEGMENT = 65533  # bytes that a JPEG marker segment can hold
LARGEST_XMP = LARGEST_SEGMENT - len(b"http://ns.adobe.com/xap/1.0/\0")
LARGEST_IPTC = LARGEST_SEGMENT - 30  # without the frame around it, see `iptc_segment`
LARGEST_PROFILE = 255 * (LARGEST_SEGMENT - len(b"ICC_PROFILE\0") - 2)  # in 255 segments
ORIENTATION, THUMBNAIL, THUMBNAIL_LENGTH, LONG = 0x112, 0x201, 0x202, 4
BITS, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES, XMP_TAG, EXIF_TAG, ICC_TAG = 258, 262, 277, 338, 700, 34665, 34675
RESOLUTION_X, RESOLUTION_Y, RESOLUTION_UNIT, IPTC_TAG = 282, 283, 296, 33723
PER_INCH = {2: 1.0, 3: 2.54}  # TIFF's unit -> of them in an inch
IPTC_RESOURCE = 0x0404  # of Photoshop's segment in a JPEG
COMMENT = "Comment"
NO_TEXT = ("XML:com.adobe.xmp", "Raw profile type ")  # how names begin of PNG texts that are something else
READERS: dict[bytes, type[Image.Image]] = {  # how a file begins -> what reads it; `Image.open` would refuse large images
    b"\xff\xd8": JpegImagePlugin.JpegImageFile,
    b"\x89PNG": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
}


@dataclass
class Metadata:
    """What a file says about its image; None or the default where it says nothing."""

    exif: bytes | None = None
    """A TIFF structure, without the mark that JPEG puts in front of it."""
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    is_jpeg: bool = False
    has_more_images: bool = False
    """There are more pages or frames than one."""
    has_alpha: bool = False
    """The file says that it has transparency."""
    is_premultiplied: bool = False
    """The colors of a TIFF are stored multiplied by its alpha."""
    is_straight: bool = False
    """The colors of a TIFF with alpha are stored as they are; OpenCV would multiply them."""
    is_deep: bool = False
    """A TIFF with more than 8 bits a channel."""
    is_cmyk: bool = False
    is_white_zero: bool = False
    has_unread_exif: bool = False


def read_metadata(data: bytes) -> Metadata:
    """Reads the metadata of a JPEG, PNG, WebP or TIFF file's bytes. What is malformed counts as absent."""
    found = Metadata(is_jpeg=data[:2] == b"\xff\xd8")
    try:
        with quiet_pillow():
            if data[:2] in (b"II", b"MM"):
                _read_tiff(data, found)
            for start, reader in READERS.items():
                if data.startswith(start):
                    _read_image(reader(io.BytesIO(data)), data, found)  # type: ignore[call-arg]
    except Exception:  # the decoder decides whether the file is broken; Pillow raises anything for one that is
        log.debug("the metadata of an image cannot be read", exc_info=True)
    return found


def read_pillow_metadata(image: Image.Image, data: bytes) -> Metadata:
    """Reads the metadata of an image that Pillow has opened from `data`."""
    found = Metadata()
    _read_image(image, data, found)
    return found


def _read_image(image: Image.Image, data: bytes, found: Metadata) -> None:
    info = image.info
    is_late = any(data.rfind(chunk) > data.rfind(b"IDAT") for chunk in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"))
    if isinstance(image, PngImagePlugin.PngImageFile) and is_late and image.width * image.height <= LARGEST_PIXELS:
        image.load()  # some programs write them behind the pixels
    exif = info.get("exif")
    found.exif = exif.removeprefix(EXIF_MARK) if exif else None
    found.icc = info.get("icc_profile") or None
    xmp = info.get("xmp")
    found.xmp = (xmp.encode() if isinstance(xmp, str) else xmp.rstrip(b"\0")) if xmp else None
    _read_texts(image, found)
    found.has_more_images = "mp" in info or getattr(image, "n_frames", 1) > 1
    found.has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in info
    found.is_cmyk = image.mode == "CMYK"


def _read_texts(image: Image.Image, found: Metadata) -> None:
    """Reads comments, IPTC and resolution of an image that Pillow has opened. Ignores an aspect ratio without a unit."""
    info = image.info
    if isinstance(image, PngImagePlugin.PngImageFile):
        texts = ((str(name), text) for name, text in info.items() if isinstance(text, str))
        found.texts = {name: text for name, text in texts if not name.startswith(NO_TEXT)}
        found.dpi = info.get("dpi")
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        found.dpi = info.get("dpi") if info.get("jfif_unit") else None  # Pillow takes it from EXIF otherwise, which is kept
        found.iptc = info.get("photoshop", {}).get(IPTC_RESOURCE) or None
        comment = info.get("comment", b"")
        if comment:
            try:
                found.texts = {COMMENT: comment.decode()}
            except UnicodeDecodeError:
                found.texts = {COMMENT: comment.decode("latin-1")}


def iptc_segment(iptc: bytes) -> bytes:
    """Builds the JPEG segment that holds these records, in Photoshop's format."""
    resource = b"8BIM" + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _read_tiff(data: bytes, found: Metadata) -> None:
    tags = tiff_tags(data)
    photometric, extra = tags.get(PHOTOMETRIC), tags.get(EXTRA_SAMPLES)
    meaning = (extra[0] if isinstance(extra, tuple) else extra) if extra is not None else None
    found.icc, found.xmp = tags.get(ICC_TAG) or None, tags.get(XMP_TAG) or None
    found.has_unread_exif = EXIF_TAG in tags
    iptc = tags.get(IPTC_TAG)
    found.iptc = iptc if isinstance(iptc, bytes) else struct.pack(f"{_order(data)}{len(iptc)}I", *iptc) if iptc else None
    unit = PER_INCH.get(tags.get(RESOLUTION_UNIT, 2))
    if unit and RESOLUTION_X in tags and RESOLUTION_Y in tags:
        found.dpi = float(tags[RESOLUTION_X]) * unit, float(tags[RESOLUTION_Y]) * unit
    found.is_cmyk, found.is_white_zero = photometric == 5, photometric == 0
    found.has_alpha = tags.get(SAMPLES, 1) == {0: 2, 1: 2, 2: 4}.get(photometric or 0)
    found.is_premultiplied, found.is_straight = found.has_alpha and meaning == 1, found.has_alpha and meaning == 2
    found.is_deep = max(tags.get(BITS, (1,))) > 8
    found.has_more_images = bool(tags.next)


def reason_not_held(suffix: str, name: str, size: int) -> str | None:
    """Returns why a file of this suffix cannot hold that many bytes of EXIF, color profile, XMP or IPTC; None if it can."""
    if suffix == ".bmp" or (name == "IPTC" and suffix in (".png", ".webp")):
        return f"{suffix} has none"
    if suffix in (".tif", ".tiff") and name == "EXIF":
        return "not written into .tif"
    largest = {
        "EXIF": LARGEST_SEGMENT - len(EXIF_MARK),
        "XMP": LARGEST_XMP,
        "IPTC": LARGEST_IPTC,
        "color profile": LARGEST_PROFILE,
    }[name]
    return f"too long for .jpg: {size} bytes" if suffix in (".jpg", ".jpeg") and size > largest else None


def orientation(exif: bytes | None) -> int:
    """Returns 1 to 8 as EXIF counts them; 1 where the file says nothing or nothing known."""
    try:
        value = _value(exif, _directory(exif)[0].get(ORIENTATION)) if exif else None
    except struct.error:
        value = None
    return value if value is not None and 1 <= value <= 8 else 1


def upright_exif(exif: bytes) -> bytes:
    """Returns it as for an image that was turned upright: orientation 1, and no thumbnail, which would show the original."""
    out, order = bytearray(exif), _order(exif)
    try:
        entries, link = _directory(exif)
        if ORIENTATION in entries:
            at, field_type = entries[ORIENTATION]
            struct.pack_into(order + ("I" if field_type == LONG else "H"), out, at + 8, 1)
        thumbnail = _directory(exif, struct.unpack_from(order + "I", exif, link)[0])[0]
        struct.pack_into(order + "I", out, link, 0)
        start, length = (_value(exif, thumbnail.get(tag)) for tag in (THUMBNAIL, THUMBNAIL_LENGTH))
        if start and length:
            out[start : start + length] = bytes(len(out[start : start + length]))
    except struct.error:
        pass  # malformed: no reader gets that far either
    return bytes(out)


Entry = tuple[int, int]  # where it is, its field type


def _order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _directory(data: bytes, at: int | None = None) -> tuple[dict[int, Entry], int]:
    """Reads (tag -> entry, where the next offset is written). at: 0 is an empty directory, None the first one."""
    order = _order(data)
    at = struct.unpack_from(order + "I", data, 4)[0] if at is None else at
    end = at + 2 + 12 * struct.unpack_from(order + "H", data, at)[0] if at else 2
    raw = ((entry, *struct.unpack_from(order + "HH", data, entry)) for entry in range(at + 2, end, 12))
    return {tag: (entry, field_type) for entry, tag, field_type in raw}, end


def _value(data: bytes, entry: Entry | None) -> int | None:
    """Returns the first number of an entry that has one or two."""
    form = _order(data) + ("I" if entry and entry[1] == LONG else "H")
    return int(struct.unpack_from(form, data, entry[0] + 8)[0]) if entry else None
