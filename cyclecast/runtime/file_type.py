"""Recognizes the type of a file by its first bytes, for errors about files of another type. Standard library only."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

LFS = b"version https://git-lfs.github.com/spec/"
MARKUP = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml")
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number of torch.save before 1.6, pickled
FIRST_BYTES = b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca"  # the keys of an ONNX file's fields, whose order is free
HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
PICKLE = b"\x80"  # of protocol 2 and later
ARCHIVES = {b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}

Expected = Literal["checkpoint", "onnx"]
EXPECTED: dict[Expected, tuple[str, tuple[str, ...]]] = {  # name for people, and the accepted types
    "checkpoint": ("a checkpoint of PyTorch", ("torch", "safetensors")),
    "onnx": ("an ONNX model", ("onnx",)),
}
NAMES = {
    "torch": "a PyTorch checkpoint",
    "safetensors": "a safetensors file",
    "torchscript": "a TorchScript archive, which is a program",
    "torch.export": "an archive of torch.export, which is a program",
    "keras": "a Keras model (HDF5)",
    "onnx": "an ONNX model",
    "lfs": "a Git LFS pointer, not the file itself",
    "html": "a web page (HTML), not the file itself",
    "empty": "an empty file",
    **{name: f"a {name} archive" for name in ("zip", *ARCHIVES.values())},
}
DOWNLOAD = "download the file itself"
HINTS: dict[tuple[Expected | None, str], str] = {
    (None, "lfs"): f"run `git lfs pull`, or {DOWNLOAD}",
    (None, "html"): f"a link was saved; {DOWNLOAD}",
    (None, "empty"): f"{DOWNLOAD} again",
    **{(None, name): "unpack it first" for name in ("zip", *ARCHIVES.values())},
    ("checkpoint", "torchscript"): "save the generator's state_dict()",
    ("checkpoint", "torch.export"): "save the generator's state_dict()",
    ("checkpoint", "onnx"): "`cyclecast adopt {path} -o M.onnx` converts it to a frame model",
    ("onnx", "torch"): "`cyclecast export {path} -o M.onnx` converts it to a frame model",
    ("onnx", "safetensors"): "`cyclecast export {path} -o M.onnx` converts it to a frame model",
    ("onnx", "torchscript"): "write the network with torch.onnx.export",
    ("onnx", "torch.export"): "write the network with torch.onnx.export",
}


def file_type(path: Path) -> str | None:
    """Returns the type of a file, a key of `NAMES`; None for other types. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(ZIP):
        return _zip_type(path)
    if found := _type_of_start(start):
        return found
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    if path.suffix.lower() == ".onnx" or (start[0] == 8 and start[2:3] in (b"\x12", b"\x1a", b'"', b":", b"B")):
        return "onnx"  # protobuf: the version of the format, then a name or the graph
    return next((name for magic, name in ARCHIVES.items() if start.startswith(magic)), None)


def _type_of_start(start: bytes) -> str | None:
    """Returns the type of a file that its first bytes show, other than an archive; None for other types."""
    if not start:
        return "empty"
    if start.startswith(LFS):
        return "lfs"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(MARKUP):
        return "html"
    if start.startswith(LEGACY_TORCH):
        return "torch"
    return "keras" if start.startswith(HDF5) else None


def describe_content(content: bytes) -> str | None:
    """Returns what the content of a file is, if it is no ONNX model; None if it may be one."""
    start = content[:512]
    if found := _type_of_start(start):
        return NAMES[found]
    if start.startswith(ZIP):
        return "a zip archive, such as a PyTorch checkpoint"
    if start.startswith(PICKLE):
        return "a Python pickle, which is a program"
    if any(start.startswith(magic) for magic in ARCHIVES):
        return "an archive"
    return None if start[0] in FIRST_BYTES else "not an ONNX model"


def describe_wrong_type(path: Path, expected: Expected) -> str | None:
    """Returns in one line what the file is and what to do; None if it may be the expected type, or if its type is unknown.

    Raises OSError if the file cannot be read.
    """
    found = file_type(path)
    name, accepted = EXPECTED[expected]
    if found is None or found in accepted:
        return None
    hint = HINTS.get((expected, found)) or HINTS.get((None, found))
    return f"{NAMES[found]}; expected {name}" + (f": {hint.format(path=path)}" if hint else "")


def _zip_type(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "torch"  # incomplete: its reader reports that
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        return "torch.export"
    return "torch" if "data.pkl" in names else "zip"


def how_to_convert(path: Path) -> str | None:
    """Returns what the file or folder is and what to do; None if it may be an ONNX model, or if it cannot be read."""
    if path.is_dir():
        checkpoints = sorted(item for item in path.iterdir() if item.suffix in (".pt", ".pth", ".ckpt", ".safetensors"))
        if not checkpoints:
            return None
        is_run = any(item.name == "checkpoint.pt" for item in checkpoints)
        name, source = ("the folder of a training run", path) if is_run else ("a folder of checkpoints", checkpoints[0])
        return f"{name}: `cyclecast export {source} -o M.onnx` converts it to a frame model"
    try:
        wrong = describe_wrong_type(path, "onnx")
        with path.open("rb") as file:
            first = file.read(1)
    except OSError:
        return None
    return wrong or (None if first in FIRST_BYTES else "not an ONNX model")
