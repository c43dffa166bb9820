"""Converts other projects' image-to-image ONNX models into frame models. Needs onnx and onnxruntime, not torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclecast._version import __version__
from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt.foreign import Convention, Image
from cyclecast.export.adopt.graph import frame_graph, set_spec
from cyclecast.export.adopt.infer import InferredModel, infer_convention
from cyclecast.export.adopt.original import Original
from cyclecast.export.adopt.overrides import Overrides
from cyclecast.export.adopt.reading import read_foreign
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.agreement import SIZES, Agreement, center_crop_resize, check_finite, compare, default_precision
from cyclecast.export.save import save_model
from cyclecast.files import atomic_write, check_output
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import ModelSpec


@dataclass(frozen=True)
class AdoptedModel:
    """The result of `adopt`: the frame model's spec, the findings, and the comparisons with the original."""

    spec: ModelSpec
    findings: list[Finding]
    agreements: list[Agreement]


def adopt(
    path: Path,
    output: Path,
    frames: Sequence[Image],
    overrides: Overrides | None = None,
    *,
    check: bool = True,
    overwrite: bool = False,
    on_finding: Callable[[Finding], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> AdoptedModel:
    """Writes the model at `path` as a frame model to `output`, atomically, with its weights in the same file.

    frames: images to try it on, (H, W, 3) uint8 BGR, any size. overrides: settings that replace detection. The size of a model
    with a fixed size is freed if that does not change its output; otherwise the frame model scales frames into that size, with
    their aspect ratio, and its outputs back. check: compare with the original in ONNX Runtime, and keep the file only if both
    agree within a gray level and have no NaN. on_finding: called with each finding. on_message: called with one line if the
    engine that `auto` chooses here needs a warning.

    Raises ModelError if the file is not an image-to-image model, cannot be run or upgraded to opset 18, or fails the check;
    ConfigError for a setting that is neither detected nor in `overrides`; OutputError if the output exists or cannot be
    written.
    """
    if not frames:
        raise ConfigError("expected at least one image to try the model on")
    check_output(output, overwrite)
    overrides = overrides or Overrides()
    try:
        foreign = read_foreign(path, overrides.output_name, overrides.set_inputs)
        inferred = infer_convention(foreign, frames[0], overrides, on_finding or (lambda finding: None))
        spec = ModelSpec(
            name=output.stem,
            recipe="adopted",
            architecture=_architecture(inferred.convention),
            precision=foreign.precision,
            version=__version__,
        )
        model = frame_graph(inferred.model, inferred.convention, spec)
    except (ConfigError, ModelError) as error:
        raise type(error)(f"{path}: {error}") from error
    with atomic_write(output, overwrite) as partial:
        save_model(model, partial)
        if not check:
            return AdoptedModel(spec, inferred.findings, [])
        agreements = _verify(partial, inferred, frames, "mixed" if foreign.is_quantized else "fp32")
        spec, message = default_precision(partial, spec, frames)
        if message:
            (on_message or (lambda line: None))(f"{output}: {message}")
        if spec.auto_precision != "auto":
            set_spec(model, spec)
            save_model(model, partial)
        return AdoptedModel(spec, inferred.findings, agreements)


def _architecture(convention: Convention) -> dict[str, Any]:
    channels = (convention.channels, convention.output_channels)
    return {
        "layout": convention.layout,
        "range": convention.range.name,
        "output_range": convention.output_range.name,
        "color": convention.color,
        "size": convention.size,
        "multiple": convention.multiple,
    } | ({} if channels == (3, 3) else {"channels": channels, "gray": convention.gray})


def _verify(path: Path, inferred: InferredModel, frames: Sequence[Image], tolerance: str) -> list[Agreement]:
    """Compares the frame model at `path` with `Original.style`, both in ONNX Runtime. Raises ModelError if they differ.

    tolerance: the precision whose tolerance applies.
    """
    convention = inferred.convention
    sizes: list[tuple[tuple[int, int], Original]] = [(size, inferred.reference) for size in SIZES]
    if convention.size is not None:
        width, height = convention.size
        # The second size shrinks one side and enlarges the other.
        sizes = [((width, height), inferred.original), ((2 * width + 5, height // 2 + 16), inferred.original)]
    elif inferred.fixed_at is not None:
        sizes.insert(0, (inferred.fixed_at, inferred.original))
    report = []
    with closing(open_engine(path, "onnxruntime", "cpu")) as engine:
        check_finite(path, frames, [size for size, _ in sizes], engine.precision)
        for (width, height), original in sizes:
            fitted = [center_crop_resize(frame, width, height) for frame in frames]
            pairs = ((engine.run(frame), original.style(frame, convention)) for frame in fitted)
            report.append(compare((width, height), pairs, tolerance))
    worst = max(report, key=lambda agreement: agreement.max_abs)
    if not all(agreement.passed for agreement in report):
        size = f"{worst.size[0]}x{worst.size[1]}"
        raise ModelError(
            f"the frame model differs from {inferred.original.path} by {worst.max_abs} gray levels at {size}, so it was not kept"
        )
    return report
