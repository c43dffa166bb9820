"""ONNX Runtime: runs wherever Python does; on NVIDIA GPUs with the package onnxruntime-gpu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cyclecast.errors import EngineError, EngineUnavailable, ModelError
from cyclecast.runtime.engine import BySize, Image, check_frame, check_size, check_styled, frame_size, stated_precision
from cyclecast.runtime.machine import processor_name
from cyclecast.spec import METADATA_KEY


class OnnxRuntimeEngine:
    """One session for each frame size, the graph's free dimensions fixed to it."""

    name = "onnxruntime"

    def __init__(self, path: Path, device: str, precision: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineUnavailable(
                "onnxruntime is not installed: pip install onnxruntime, or for NVIDIA GPUs cyclecast[gpu]; never both"
            ) from error
        self._onnxruntime = onnxruntime
        self.device, self._providers = self._pick_device(device)
        self._path = path
        session = self._open({})
        free = session.get_inputs()[0].shape if session.get_inputs() else []
        self.size = frame_size(path, _ports(session.get_inputs()), _ports(session.get_outputs()))
        self._free = [name if isinstance(name, str) else None for name in free[1:3]]  # symbols of H and W
        self.metadata: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.precision = stated_precision(self.metadata)
        if precision not in ("auto", self.precision):
            raise EngineUnavailable(f"onnxruntime computes this model in {self.precision}, not in {precision}")
        self._input = session.get_inputs()[0].name
        self._sessions = BySize(self._specialise)

    def _pick_device(self, device: str) -> tuple[str, list[tuple[str, dict[str, int]]]]:
        """The device in words, and the provider that computes on it."""
        if device in ("auto", "cpu"):
            return processor_name(), [("CPUExecutionProvider", {})]
        kind, _, index = device.partition(":")
        if kind not in ("gpu", "cuda") or not (index or "0").isdigit():
            raise EngineUnavailable(f"onnxruntime runs on cpu, gpu or cuda:N, not on {device!r}")
        if "CUDAExecutionProvider" not in self._onnxruntime.get_available_providers():
            raise EngineUnavailable("this onnxruntime has no CUDA: pip uninstall onnxruntime, then pip install cyclecast[gpu]")
        self._onnxruntime.preload_dlls(directory="")
        return f"cuda:{int(index or 0)}", [("CUDAExecutionProvider", {"device_id": int(index or 0)})]

    def _require_provider(self, session: Any) -> None:
        """The session as it is, not as it was asked for: providers that fail to load drop out without an error."""
        wanted, got = self._providers[0][0], session.get_providers()
        if wanted not in got:
            raise EngineUnavailable(f"onnxruntime could not start {wanted} and would have run on {', '.join(got)}")

    def _open(self, dimensions: dict[str, int]) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: warnings about shapes would land on the user's terminal
        # Threads that spin between frames steal the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name, value in dimensions.items():
            options.add_free_dimension_override_by_name(name, value)
        if not self._path.is_file():
            raise ModelError(f"{self._path}: no such model")
        try:
            session = self._onnxruntime.InferenceSession(str(self._path), options, providers=self._providers)
        except Exception as error:  # its exception types are private and share no other base
            raise ModelError(f"{self._path}: onnxruntime cannot read it as a model") from error
        self._require_provider(session)
        return session

    def _specialise(self, width: int, height: int) -> Any:
        check_size(width, height, self.size)
        sizes = zip(self._free, (height, width), strict=True)
        return self._open({name: value for name, value in sizes if name is not None})

    def prepare(self, width: int, height: int) -> None:
        self._sessions.get(width, height)

    def run(self, frame: Image) -> Image:
        width, height = check_frame(frame, self.size)
        session = self._sessions.get(width, height)
        try:
            (styled,) = session.run(None, {self._input: np.ascontiguousarray(frame)[None]})
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed on a frame of {width}x{height}: {error}") from error
        return check_styled(np.asarray(styled[0], np.uint8), frame)

    def close(self) -> None:
        self._sessions.close()


def _ports(ports: Any) -> list[tuple[str, list[int | None]]]:
    return [(port.type, [d if isinstance(d, int) else None for d in port.shape]) for port in ports]
