"""Saves ONNX models."""

from __future__ import annotations

from pathlib import Path

import onnx

from cyclecast.files import write_error


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model with its weights to one file; equal models give equal bytes. Raises OutputError if that fails."""
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise write_error(error) from error
