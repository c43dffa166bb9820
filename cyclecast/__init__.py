"""cyclecast: train style models such as CycleGAN, and run them on videos, photos and live cameras.

    model = cyclecast.load("monet")                        # a bundled model, or the path of an ONNX frame model
    styled = model(frame)                                  # (H, W, 3) uint8 BGR -> the same
    report = cyclecast.convert("in.mp4", "out.mp4", model)
    for frame in cyclecast.stream(0, model):               # live; always the newest frame
        show(frame.image)

Everything that these functions take, return or raise can be imported from here. Other modules may move between versions.
Importing this package loads neither torch nor an engine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclecast._version import __version__
from cyclecast.errors import (
    ConfigError,
    CyclecastError,
    EngineError,
    EngineNotInstalled,
    EngineUnavailable,
    FetchError,
    InputError,
    InputPermissionError,
    Interrupted,
    MissingExtraError,
    MissingInputError,
    MissingModelError,
    ModelError,
    OutputError,
    OutputExistsError,
    OutputPermissionError,
    TrainingDiverged,
)

if TYPE_CHECKING:
    from cyclecast.future import Future
    from cyclecast.runtime.engine import Engine, Image
    from cyclecast.runtime.model import Model
    from cyclecast.runtime.model_file import ModelFile
    from cyclecast.spec import ModelSpec
    from cyclecast.video.convert.callbacks import OnFrame
    from cyclecast.video.convert.options import ConvertOptions
    from cyclecast.video.convert.report import ConversionReport
    from cyclecast.video.live.options import LiveOptions
    from cyclecast.video.live.sources.source import CaptureSettings
    from cyclecast.video.live.styling.frame_stream import FrameStream
    from cyclecast.video.live.styling.styled_frame import StyledFrame

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would report to Microsoft; it reads this when it is loaded

_LAZY = {  # name -> module that it is imported from when it is first used
    "CaptureSettings": "cyclecast.video.live.sources.source",
    "ConversionReport": "cyclecast.video.convert.report",
    "ConvertOptions": "cyclecast.video.convert.options",
    "Engine": "cyclecast.runtime.engine",
    "FrameStream": "cyclecast.video.live.styling.frame_stream",
    "Future": "cyclecast.future",
    "Image": "cyclecast.runtime.engine",
    "LiveOptions": "cyclecast.video.live.options",
    "Model": "cyclecast.runtime.model",
    "ModelFile": "cyclecast.runtime.model_file",
    "ModelSpec": "cyclecast.spec",
    "OnFrame": "cyclecast.video.convert.callbacks",
    "StyledFrame": "cyclecast.video.live.styling.styled_frame",
}

__all__ = [
    "CaptureSettings",
    "ConfigError",
    "ConversionReport",
    "ConvertOptions",
    "CyclecastError",
    "Engine",
    "EngineError",
    "EngineNotInstalled",
    "EngineUnavailable",
    "FetchError",
    "FrameStream",
    "Future",
    "Image",
    "InputError",
    "InputPermissionError",
    "Interrupted",
    "LiveOptions",
    "MissingExtraError",
    "MissingInputError",
    "MissingModelError",
    "Model",
    "ModelError",
    "ModelFile",
    "ModelSpec",
    "OnFrame",
    "OutputError",
    "OutputExistsError",
    "OutputPermissionError",
    "StyledFrame",
    "TrainingDiverged",
    "__version__",
    "convert",
    "load",
    "open_engine",
    "stream",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library logs silently; see `cyclecast.debug`


def __getattr__(name: str) -> Any:
    """Imports a public type when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    model: str | Path | ModelFile,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    on_build: Callable[[float], None] | None = None,
    threads: int | None = None,
) -> Model:
    """Opens a bundled model by name ("monet"), an ONNX frame model or a TensorRT plan by path, or one already in memory.

    The file is read once: if it is replaced or deleted later, the model stays what it was. A model by address ("hf:user/name",
    "https://…/x.onnx") is fetched the first time and kept; see docs/share.md.
    engine: "auto", "tensorrt", "tensorrt-rtx", "openvino", "onnxruntime", "webgpu" or "torch".
    device: "auto" (the best one present), "cpu", "gpu", "gpu:N", "npu", "coreml" or "cuda:N".
    precision: "auto", "int8", "fp32", "bf16" or "fp16".
    on_build: called with the completed share, 0 to 1, while TensorRT builds a plan for a frame size, which may take minutes.
    threads: number of CPU threads that compute; None: the engine's choice.

    Raises ModelError (not a frame model), FetchError (its address cannot be fetched, or has another file than the first time),
    EngineUnavailable (requested, but not on this machine), ConfigError (an unknown engine; an address that cannot be used; more
    threads than logical cores; threads for an engine on a GPU).
    """
    from cyclecast.runtime import model as runtime

    return runtime.load(model, engine, device, precision, on_build, open_engine, threads)


def open_engine(
    path: Path | ModelFile, engine: str = "auto", device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Engine:
    """Opens a model on an engine, without the `Model` around it. Parameters and errors are those of `load`.

    "torch", the reference, needs the extra `train`.
    """
    if engine == "torch":
        from cyclecast.export.torch_engine import TorchEngine
        from cyclecast.runtime.engines import limit_threads
        from cyclecast.runtime.threads import check_threads

        check_threads(threads)
        return limit_threads(TorchEngine(path, device, precision), threads)
    from cyclecast.runtime import engines

    return engines.open_engine(path, engine, device, precision, threads)


def convert(
    source: str | Path,
    output: str | Path,
    model: Model | str | Path,
    options: ConvertOptions | None = None,
    on_frame: OnFrame | None = None,
    threads: int | None = None,
) -> ConversionReport:
    """Runs one video or image through a model. The output file appears complete or not at all.

    model: the result of `load`, or the name or path of a model.
    on_frame: called with the number of finished frames and their total (None if unknown).
    threads: number of CPU threads that compute a model opened here; None: the engine's choice. Decoder and encoder have their
    own.

    Raises InputError (the source is missing or unreadable), OutputError (the output exists, or cannot be written or hold the
    streams), ConfigError (options that do not fit; `threads` with an open model), Interrupted (Ctrl-C), and what `load` raises.
    """
    from cyclecast.video.convert.convert import convert_file

    if isinstance(model, str | Path):
        with load(model, threads=threads) as opened:
            return convert_file(Path(source), Path(output), opened, options, on_frame)
    _refuse_threads(threads)
    return convert_file(Path(source), Path(output), model, options, on_frame)


def stream(
    source: int | str | Path,
    model: Model | str | Path,
    capture_settings: CaptureSettings | None = None,
    options: LiveOptions | None = None,
    on_message: Callable[[str], None] | None = None,
    threads: int | None = None,
) -> FrameStream:
    """Opens a live source and a model, and returns an iterator over the styled frames. Late frames are skipped.

    source: 0, "/dev/video0", a part of a camera's name, "rtsp://…", a file, "pattern://1280x720@30" …; see docs/live.md.
    model: the result of `load`, or the name or path of a model.
    capture_settings: size and rate to request from the source.
    on_message: called with one-line messages, such as a source that is lost and reopened.
    threads: number of CPU threads that compute a model opened here; None: the engine's choice.

    Each `StyledFrame` has its `image`, (H, W, 3) uint8 BGR, the `source` image, and `at`, the time of its capture. The iterator
    ends with the source, or after `options.seconds`.

    Raises at once: ConfigError ("browser" as a source, which only `cyclecast live` has; `target_fps` or `threads` with an
    open model: they need a name or a path), MissingInputError (there is no such file or camera), and what `load` raises. The
    iterator raises InputError if the source cannot be opened.
    """
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.model_file import read_model_file
    from cyclecast.video.cameras import find_camera, list_cameras
    from cyclecast.video.live.sources.address import file_path, source_type
    from cyclecast.video.live.styling.frame_stream import FrameStream
    from cyclecast.video.live.styling.open_model import BorrowedModel
    from cyclecast.video.live.styling.stream import open_stream

    address = str(source)
    if address == "browser":
        raise ConfigError('stream("browser"): frames of a browser need its page; run `cyclecast live browser --sink web`')
    source_is, is_missing = source_type(address), not Path(file_path(address)).exists()
    if source_is == "name":
        is_missing = find_camera(address, list_cameras()) is None
    if source_is in ("file", "name") and is_missing:
        raise MissingInputError(f"{address}: no such file; expected a camera (0, 1 …), an address such as rtsp://…, or a file")
    if isinstance(model, str | Path):
        file = read_model_file(find_model(model))  # read once, although `target_fps` opens the model again and again

        def load_file(name: str) -> Model:
            return load(file, threads=threads)

        return FrameStream(open_stream(address, [str(model)], load_file, capture_settings, options, on_message))
    _refuse_threads(threads)
    if options is not None and options.target_fps is not None:
        raise ConfigError("target_fps needs the name or path of a model, not an open model")
    borrowed = BorrowedModel(model.name, model)
    return FrameStream(open_stream(address, [model.name], lambda name: borrowed, capture_settings, options, on_message))


def _refuse_threads(threads: int | None) -> None:
    """Raises ConfigError for a number of threads that comes too late: with a model that is open already."""
    if threads is not None:
        raise ConfigError("threads needs the name or path of a model, not an open model: pass threads to cyclecast.load")
