"""Runs the unchanged file in ONNX Runtime: the reference for its frame model."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime

from cyclecast.errors import ModelError
from cyclecast.export.adopt.foreign import Array, Convention, ForeignModel, Image, letterbox, letterbox_size, resize, to_layout

log = logging.getLogger(__name__)


class Original:
    """A foreign model in ONNX Runtime. model: a changed graph to run in place of the file."""

    def __init__(self, foreign: ForeignModel, layout: str, model: onnx.ModelProto | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: errors come as exceptions, which become one line
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in `OnnxRuntimeEngine`
        self.path, self.layout, self._foreign = foreign.path, layout, foreign
        self._constants = {} if model is not None else foreign.constants  # a changed graph has them inside
        source = str(foreign.path) if model is None else model.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception types are private and share no other base
            log.debug("onnxruntime cannot open %s", foreign.path, exc_info=True)
            raise ModelError(f"ONNX Runtime cannot open it: {short_text(error)}") from error

    def __call__(self, x: Array) -> Array:
        """Runs the model on (1, C, H, W) float; returns its output in its own layout and dtype. Raises ModelError if it fails."""
        port = self._foreign.input
        x = to_layout(x, "nchw", self.layout)
        x = np.rint(x).astype(np.uint8) if port.dtype == np.uint8 else x.astype(port.dtype)
        try:
            (y,) = self._session.run([self._foreign.output.name], {port.name: np.ascontiguousarray(x), **self._constants})
        except Exception as error:  # as above
            log.debug("onnxruntime cannot run %s", self.path, exc_info=True)
            raise ModelError(f"ONNX Runtime cannot run it: {short_text(error)}") from error
        return np.asarray(y)

    def style(self, frame: Image, convention: Convention) -> Image:
        """Styles a frame with pre- and postprocessing in numpy: (H, W, 3) uint8 BGR -> the same."""
        height, width = frame.shape[:2]
        x: Array = frame.astype(np.float32)
        used = (width, height)
        if convention.size is not None:
            used = letterbox_size(width, height, convention.size)
            x = letterbox(x, convention.size)
        y = to_layout(self(convention.to_input(x)), convention.output_layout, "nchw")
        styled = convention.to_frame(y, used[1], used[0])
        if convention.size is not None:
            styled = resize(styled, width, height)
        return np.asarray(np.rint(styled), np.uint8)


def short_text(error: Exception) -> str:
    """Extracts the reason from an error of ONNX Runtime: one line of at most 200 characters."""
    text = " ".join(str(error).split())
    for start in ("Status Message: ", "[ShapeInferenceError] "):  # before it: codes, and the name of a node
        text = text.rpartition(start)[2]
    return text if len(text) <= 200 else text[:197] + "..."
