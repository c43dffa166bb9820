"""cyclecast: a CycleGAN-type generator from training to live video.

    model = cyclecast.load("monet")                        # a bundled model, or the path of an ONNX frame model
    styled = model(frame)                                  # (H, W, 3) uint8 BGR -> the same
    report = cyclecast.convert("in.mp4", "out.mp4", model)
    for shown in cyclecast.stream(0, model):               # live, the newest frame first
        show(shown.image)

Importing this package loads neither torch nor an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cyclecast._version import __version__

if TYPE_CHECKING:
    from cyclecast.runtime.engine import Engine
    from cyclecast.runtime.model import Model
    from cyclecast.video.convert.callbacks import OnFrame
    from cyclecast.video.convert.options import ConvertOptions
    from cyclecast.video.convert.report import ConversionReport
    from cyclecast.video.live.capture.client import OnMessage
    from cyclecast.video.live.options import LiveOptions
    from cyclecast.video.live.sources.source import CaptureSettings
    from cyclecast.video.live.styling.styled_frame import StyledFrame

__all__ = ["__version__", "convert", "load", "stream"]


def load(
    model: str | Path,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    on_build: Callable[[float], None] | None = None,
) -> Model:
    """Opens a bundled model by name ("monet"), an ONNX frame model or a plan by path.

    engine: "auto", "tensorrt", "tensorrt-rtx", "openvino", "onnxruntime" or "torch". device: "auto", "cpu", "gpu" or "cuda:N".
    precision: "auto", "fp32", "bf16" or "fp16". on_build: told the share that is done, 0 to 1, while TensorRT builds a
    plan for a frame size, which may take minutes. Raises ModelError (no frame model), EngineUnavailable (asked for and not
    on this machine).
    """
    from cyclecast.runtime import model as runtime

    return runtime.load(model, engine, device, precision, on_build, open_engine)


def open_engine(path: Path, engine: str = "auto", device: str = "auto", precision: str = "auto") -> Engine:
    """As `cyclecast.runtime.engines.open_engine`; and "torch", the reference, which needs the extra `train`."""
    if engine == "torch":
        from cyclecast.export.torch_engine import TorchEngine

        return TorchEngine(path, device, precision)
    from cyclecast.runtime import engines

    return engines.open_engine(path, engine, device, precision)


def convert(
    source: str | Path,
    output: str | Path,
    model: Model | str | Path,
    options: ConvertOptions | None = None,
    on_frame: OnFrame | None = None,
) -> ConversionReport:
    """Runs one video or image through a model into a file that appears whole or not at all.

    model: what `load` gave, or a name or path to load. See `ConvertOptions` for the options and `convert_file` for the errors.
    """
    from cyclecast.video.convert.convert import convert_file

    if isinstance(model, str | Path):
        with load(model) as opened:
            return convert_file(Path(source), Path(output), opened, options, on_frame)
    return convert_file(Path(source), Path(output), model, options, on_frame)


def stream(
    source: int | str,
    model: Model | str | Path,
    capture_settings: CaptureSettings | None = None,
    options: LiveOptions | None = None,
    on_message: OnMessage | None = None,
) -> Iterator[StyledFrame]:
    """Styled pictures of a live source as they come, the newest first; ends where the source ends, or when the loop is left.

    source: 0, "/dev/video0", "rtsp://…", a file, "pattern://1280x720@30" …, see docs/live.md. model: what `load` returned, or a
    name or path to load. capture_settings: size and rate. Each `StyledFrame` has its `image`, (H, W, 3) uint8 BGR, the `source`
    image, and the time `at` which it was captured. A lost source is reopened. Raises InputError (the source cannot be opened),
    ConfigError (`target_fps` needs a name or path, for a second copy of the model is opened), and what `load` raises.
    """
    from cyclecast.errors import ConfigError
    from cyclecast.video.live.styling.stream import open_stream
    from cyclecast.video.live.styling.style_switcher import BorrowedModel

    if isinstance(model, str | Path):
        opened = open_stream(str(source), [str(model)], load, capture_settings, options, on_message)
    elif options is not None and options.target_fps is not None:
        raise ConfigError("target_fps needs the name or path of a model, not an open one")
    else:
        lent = BorrowedModel(model.name, model)
        opened = open_stream(str(source), [model.name], lambda name: lent, capture_settings, options, on_message)
    try:
        yield from opened
    finally:
        opened.close()
