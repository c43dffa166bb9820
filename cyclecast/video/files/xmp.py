"""Keeps the XMP of an image true for the output: upright, and without pointers to data that the output does not have."""

from __future__ import annotations

import logging
import re
from xml.dom import minidom

log = logging.getLogger(__name__)
XMLNS = "http://www.w3.org/2000/xmlns/"
# Namespace -> how the names begin of its properties that describe or point to data beside the image; "": all of them.
POINTERS = {
    "http://ns.google.com/photos/1.0/camera/": ("MotionPhoto", "MicroVideo"),
    "http://ns.google.com/photos/1.0/container/": ("",),
    "http://ns.google.com/photos/1.0/container/item/": ("",),
    "http://ns.google.com/photos/1.0/depthmap/": ("",),
    "http://ns.google.com/photos/1.0/image/": ("",),
    "http://ns.google.com/photos/1.0/audio/": ("",),
    "http://ns.google.com/photos/dd/1.0/container/": ("",),
    "http://ns.google.com/photos/dd/1.0/device/": ("",),
    "http://ns.adobe.com/hdr-gain-map/1.0/": ("",),
    "http://ns.apple.com/HDRGainMap/1.0/": ("",),
    "http://ns.adobe.com/xmp/note/": ("HasExtendedXMP",),
}


def upright_xmp(xmp: bytes) -> bytes:
    """Sets tiff:Orientation to 1, where it is stated."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))\d", rb"\g<1>1", xmp)


def without_pointers(xmp: bytes) -> bytes:
    """Removes the entries about a motion photo's video, a gain map, a depth map and an extended packet.

    These lie beside the image in a source and are not in the output. XMP that has none of it or is malformed stays as it is.
    """
    if not any(namespace.encode() in xmp for namespace in POINTERS) or b"<!DOCTYPE" in xmp:
        return xmp
    try:
        document = minidom.parseString(xmp)
        is_changed = _remove_pointers(document)
        return "".join(node.toxml() for node in document.childNodes).encode() if is_changed else xmp
    except Exception:  # the parser raises anything for malformed XML
        log.debug("the XMP of an image cannot be parsed", exc_info=True)
        return xmp


def _remove_pointers(node: minidom.Document | minidom.Element) -> bool:
    """Removes the properties below a node, whether they are elements or attributes, and declarations that are then useless."""
    is_changed = False
    for child in list(node.childNodes):
        if isinstance(child, minidom.Element):
            if _is_pointer(child):
                node.removeChild(child)
                is_changed = True
                continue
            pointers = [each for each in child.attributes.values() if _is_pointer(each)]
            for attribute in pointers:
                child.removeAttributeNode(attribute)
            is_changed = bool(pointers) | _remove_pointers(child) | is_changed
    return is_changed


def _is_pointer(node: minidom.Element | minidom.Attr) -> bool:
    if isinstance(node, minidom.Attr) and node.namespaceURI == XMLNS:
        return POINTERS.get(node.value) == ("",)
    return (node.localName or "").startswith(POINTERS.get(node.namespaceURI or "", ()))
