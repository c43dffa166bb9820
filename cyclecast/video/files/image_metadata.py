"""What an image file holds beside its pixels: EXIF, color profile and XMP, read from the bytes and put into them.

OpenCV (from 4.12) would do for some; into JPEG it writes no XMP and no profile over 64 KiB, of TIFF it knows nothing.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG = b"\x89PNG\r\n\x1a\n"
EXIF_MARK, XMP_MARK, ICC_MARK = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
XMP_KEYWORD = b"XML:com.adobe.xmp"
LARGEST_SEGMENT = 65533  # bytes a JPEG marker segment can hold
PROFILE_PART = LARGEST_SEGMENT - len(ICC_MARK) - 2  # of them for a profile
LARGEST_UNPACKED = 1 << 26  # bytes of a profile or XMP in a PNG
ORIENTATION, THUMBNAIL, THUMBNAIL_LENGTH, LONG = 0x112, 0x201, 0x202, 4
PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES, XMP_TAG, ICC_TAG, EXIF_TAG = 262, 277, 338, 700, 34675, 34665


@dataclass
class Metadata:
    """What one file says beside its pixels; None or the default where it is silent."""

    exif: bytes | None = None
    """A TIFF structure, without the mark that JPEG puts before it."""
    icc: bytes | None = None
    xmp: bytes | None = None
    kind: str = ""
    """jpeg, png, webp, tiff or nothing: by the bytes, not by the name."""
    several: bool = False
    """Pages or frames: there is more than one picture."""
    transparent: bool = False
    """The file says that it has transparency."""
    cmyk: bool = False
    white_is_zero: bool = False
    premultiplied: bool = False
    """The colors of a TIFF are stored multiplied by its alpha."""
    straight_alpha_at: int | None = None
    """Where a TIFF says, in two bytes, that its alpha is not multiplied into the colors."""
    unread_exif: bool = False


def read_metadata(data: bytes) -> Metadata:
    """Of a JPEG, PNG, WebP or TIFF file's bytes; what is malformed counts as not there."""
    found = Metadata()
    try:
        if data[:2] == b"\xff\xd8":
            _read_jpeg(data, found)
        elif data[:8] == PNG:
            _read_png(data, found)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            _read_webp(data, found)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            _read_tiff(data, found)
    except (struct.error, IndexError):
        pass  # cut short: the decoder has the last word
    if found.exif and found.exif.startswith(EXIF_MARK):
        found.exif = found.exif[len(EXIF_MARK) :]
    return found


def put_metadata(
    data: bytes, suffix: str, exif: bytes | None, icc: bytes | None, xmp: bytes | None, alpha: bool = False
) -> tuple[bytes, list[str]]:
    """The encoded picture with what its format can hold, and a phrase for each thing that it cannot.

    data: as OpenCV encodes .jpg, .png, .webp, .tiff (one page) or .bmp. icc: for RGB colors. alpha: there is one, and the
    colors are not multiplied by it.
    """
    kind = suffix.lower().replace(".jpeg", ".jpg").replace(".tiff", ".tif")
    held: list[bytes | None] = []
    lost: list[str] = []
    for name, value in (("EXIF", exif), ("color profile", icc), ("XMP", xmp)):
        reason = _no_room(kind, name, len(value)) if value else None
        held.append(None if reason else value)
        lost += [f"{name} ({reason})"] if reason else []
    if kind == ".tif":
        return _put_tiff(data, held[1], held[2], alpha), lost
    writer = {".jpg": _put_jpeg, ".png": _put_png, ".webp": _put_webp}.get(kind)
    return (writer(data, *held) if writer and any(held) else data), lost


def _no_room(kind: str, name: str, size: int) -> str | None:
    if kind == ".bmp":
        return ".bmp has none"
    if kind == ".tif" and name == "EXIF":
        return "not written into .tif"
    most = 255 * PROFILE_PART if name == "color profile" else LARGEST_SEGMENT - len(XMP_MARK)
    return f"too long for .jpg: {size} bytes" if kind == ".jpg" and size > most else None


def orientation(exif: bytes | None) -> int:
    """1 to 8 as EXIF counts them; 1 where nothing, or nothing known, is said."""
    try:
        value = _value(exif, _directory(exif)[0].get(ORIENTATION)) if exif else None
    except struct.error:
        value = None
    return value if value is not None and 1 <= value <= 8 else 1


def upright_exif(exif: bytes) -> bytes:
    """The same for a picture that was turned upright: orientation 1, and no thumbnail, which would show it as it was."""
    out, order = bytearray(exif), _order(exif)
    try:
        entries, link = _directory(exif)
        if ORIENTATION in entries:
            at, kind, _ = entries[ORIENTATION]
            struct.pack_into(order + ("I" if kind == LONG else "H"), out, at + 8, 1)
        thumbnail = _directory(exif, struct.unpack_from(order + "I", exif, link)[0])[0]
        struct.pack_into(order + "I", out, link, 0)
        start, length = (_value(exif, thumbnail.get(tag)) for tag in (THUMBNAIL, THUMBNAIL_LENGTH))
        if start and length:
            out[start : start + length] = bytes(len(out[start : start + length]))
    except struct.error:
        pass  # malformed beyond what a reader follows
    return bytes(out)


def upright_xmp(xmp: bytes) -> bytes:
    """The same with tiff:Orientation 1, where it is stated."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))\d", rb"\g<1>1", xmp)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, payload) of each segment before the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _read_jpeg(data: bytes, found: Metadata) -> None:
    found.kind = "jpeg"
    profile: dict[int, bytes] = {}
    for marker, payload in _segments(data):
        if marker == 0xE1 and payload.startswith(EXIF_MARK) and found.exif is None:
            found.exif = payload
        elif marker == 0xE1 and payload.startswith(XMP_MARK):
            found.xmp = payload[len(XMP_MARK) :]
        elif marker == 0xE2 and payload.startswith(ICC_MARK) and len(payload) > 14:
            profile[payload[12]] = payload[14:]
        elif marker == 0xE2 and payload.startswith(b"MPF\0"):
            found.several = True
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            found.cmyk = payload[5] == 4
    found.icc = b"".join(profile[part] for part in sorted(profile)) or None


def _put_jpeg(data: bytes, exif: bytes | None, icc: bytes | None, xmp: bytes | None) -> bytes:
    segments = [(0xE1, EXIF_MARK + exif)] if exif else []
    segments += [(0xE1, XMP_MARK + xmp)] if xmp else []
    parts = [icc[at : at + PROFILE_PART] for at in range(0, len(icc), PROFILE_PART)] if icc else []
    segments += [(0xE2, ICC_MARK + bytes([number, len(parts)]) + part) for number, part in enumerate(parts, 1)]
    at = 4 + struct.unpack_from(">H", data, 4)[0] if data[2:4] == b"\xff\xe0" else 2  # after JFIF's own, which comes first
    inserted = b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(payload)) + payload for marker, payload in segments)
    return data[:at] + inserted + data[at:]


def _read_png(data: bytes, found: Metadata) -> None:
    found.kind, at = "png", 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        payload, at = data[at + 8 : at + 8 + length], at + 12 + length
        if name == b"IHDR":
            found.transparent = payload[9] in (4, 6)
        elif name == b"tRNS":
            found.transparent = True
        elif name == b"acTL":
            found.several = struct.unpack_from(">I", payload)[0] > 1
        elif name == b"eXIf":
            found.exif = payload
        elif name == b"iCCP":
            found.icc = _unpacked(payload.partition(b"\0")[2][1:])
        elif name == b"iTXt" and payload.startswith(XMP_KEYWORD + b"\0"):
            packed, rest = payload[len(XMP_KEYWORD) + 1], payload[len(XMP_KEYWORD) + 3 :]
            text = rest.split(b"\0", 2)[-1]
            found.xmp = (_unpacked(text) if packed else text).rstrip(b"\0")


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, LARGEST_UNPACKED)
    except zlib.error:
        return b""


def _put_png(data: bytes, exif: bytes | None, icc: bytes | None, xmp: bytes | None) -> bytes:
    chunks = [b"iCCPicc\0\0" + zlib.compress(icc)] if icc else []
    chunks += [b"eXIf" + exif] if exif else []
    chunks += [b"iTXt" + XMP_KEYWORD + bytes(5) + xmp] if xmp else []
    at = 8 + 25  # after IHDR, before any PLTE and IDAT
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return data[:at] + b"".join(framed) + data[at:]


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _read_webp(data: bytes, found: Metadata) -> None:
    found.kind = "webp"
    frames = 0
    for name, payload in _riff_chunks(data):
        if name == b"VP8X":
            found.transparent = bool(payload[0] & 0x10)
        elif name == b"ANMF":
            frames += 1
        elif name == b"EXIF":
            found.exif = payload
        elif name == b"ICCP":
            found.icc = payload
        elif name == b"XMP ":
            found.xmp = payload
    found.several = frames > 1


def _put_webp(data: bytes, exif: bytes | None, icc: bytes | None, xmp: bytes | None) -> bytes:
    chunks = list(_riff_chunks(data))
    if chunks[0][0] == b"VP8X":
        header, chunks = bytearray(chunks[0][1]), chunks[1:]
    else:
        pixels = chunks[0][1]  # VP8: width and height are 14 bits each
        width, height = (number & 0x3FFF for number in struct.unpack_from("<HH", pixels, 6))
        header = bytearray(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    header[0] |= 0x20 * bool(icc) | 0x08 * bool(exif) | 0x04 * bool(xmp)
    around = [(b"VP8X", bytes(header)), (b"ICCP", icc), *chunks, (b"EXIF", exif), (b"XMP ", xmp)]
    body = b"".join(name + struct.pack("<I", len(value)) + value + bytes(len(value) % 2) for name, value in around if value)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


Entry = tuple[int, int, int]  # where it lies, its type, how many values


def _order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _directory(data: bytes, at: int | None = None) -> tuple[dict[int, Entry], int]:
    """Tag -> entry of one directory, by default the first (0: there is none), and where the next one's offset is written."""
    order = _order(data)
    at = struct.unpack_from(order + "I", data, 4)[0] if at is None else at
    end = at + 2 + 12 * struct.unpack_from(order + "H", data, at)[0] if at else 2
    raw = ((entry, *struct.unpack_from(order + "HHI", data, entry)) for entry in range(at + 2, end, 12))
    return {tag: (entry, kind, count) for entry, tag, kind, count in raw}, end


def _value(data: bytes, entry: Entry | None) -> int | None:
    """The first of an entry's numbers, if it has one or two."""
    form = _order(data) + ("I" if entry and entry[1] == LONG else "H")
    return int(struct.unpack_from(form, data, entry[0] + 8)[0]) if entry else None


def _bytes(data: bytes, entry: Entry | None) -> bytes | None:
    if entry is None or entry[2] <= 4:
        return None
    start = struct.unpack_from(_order(data) + "I", data, entry[0] + 8)[0]
    return data[start : start + entry[2]] or None


def _read_tiff(data: bytes, found: Metadata) -> None:
    found.kind, (tags, link) = "tiff", _directory(data)
    found.icc, found.xmp = _bytes(data, tags.get(ICC_TAG)), _bytes(data, tags.get(XMP_TAG))
    found.unread_exif = EXIF_TAG in tags
    photometric = _value(data, tags.get(PHOTOMETRIC))
    found.cmyk, found.white_is_zero = photometric == 5, photometric == 0
    found.transparent = _value(data, tags.get(SAMPLES)) == {0: 2, 1: 2, 2: 4}.get(photometric or 0)
    if found.transparent and EXTRA_SAMPLES in tags:
        meaning = _value(data, tags[EXTRA_SAMPLES])
        found.premultiplied = meaning == 1
        found.straight_alpha_at = tags[EXTRA_SAMPLES][0] + 8 if meaning == 2 else None
    found.several = struct.unpack_from(_order(data) + "I", data, link)[0] != 0


def _put_tiff(data: bytes, icc: bytes | None, xmp: bytes | None, straight_alpha: bool) -> bytes:
    if not (icc or xmp or straight_alpha):
        return data
    order, out = _order(data), bytearray(data)
    entries = {tag: data[at : at + 12] for tag, (at, _, _) in _directory(data)[0].items()}
    if straight_alpha:
        entries[EXTRA_SAMPLES] = struct.pack(order + "HHIHH", EXTRA_SAMPLES, 3, 1, 2, 0)
    for tag, kind, value in ((ICC_TAG, 7, icc), (XMP_TAG, 1, xmp)):
        if value:
            out += bytes(len(out) % 2)
            entries[tag] = struct.pack(order + "HHII", tag, kind, max(5, len(value)), len(out))
            out += value.ljust(5, b"\0")  # four bytes or fewer would lie in the entry itself
    out += bytes(len(out) % 2)
    struct.pack_into(order + "I", out, 4, len(out))
    return bytes(out + struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4))
