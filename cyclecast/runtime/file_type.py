"""Recognizes files and folders that are no ONNX models by their first bytes. Standard library only."""

from __future__ import annotations

import zipfile
from pathlib import Path

FIRST_BYTES = b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca"  # the keys of an ONNX file's fields, whose order is free


def how_to_convert(path: Path) -> str | None:
    """What the file or folder at `path` is, and what to do; None if it may be an ONNX model, or if it cannot be read."""
    if path.is_dir():
        checkpoints = sorted(item for item in path.iterdir() if item.suffix in (".pt", ".pth"))
        if not checkpoints:
            return None
        is_run = any(item.name == "checkpoint.pt" for item in checkpoints)
        return (
            f"the folder of a training run: {_export(path)}" if is_run else f"a folder of checkpoints: {_export(checkpoints[0])}"
        )
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return None
    if not start:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return "a web page or another text, not a model: download the file itself"
    if zipfile.is_zipfile(path):
        return _describe_archive(path)
    if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04") or path.suffix.lower() in (".pt", ".pth", ".ckpt"):
        return f"a PyTorch checkpoint: {_export(path)}"
    if start[8:9] == b"{":
        return f"weights in the format safetensors: {_export(path)}"
    return None if start[0] in FIRST_BYTES else "not an ONNX model"


def _describe_archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names) and any("/code/" in f"/{name}" for name in names):
        return "a TorchScript program: export it to ONNX where its code is, then use `cyclecast adopt`"
    if any(name.endswith("data.pkl") for name in names):
        return f"a PyTorch checkpoint: {_export(path)}"
    return "a zip archive, not a model: unpack it"


def _export(path: Path) -> str:
    return f"`cyclecast export {path} -o NEW.onnx` makes a frame model of a generator"
