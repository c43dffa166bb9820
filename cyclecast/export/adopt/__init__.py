"""Converts image-to-image ONNX models from elsewhere into frame models. Needs onnx and onnxruntime, not torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclecast._version import __version__
from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt import evidence
from cyclecast.export.adopt.evidence import Finding, Overrides
from cyclecast.export.adopt.foreign import Array, Convention, ForeignModel, Image, Original, read_foreign, to_input
from cyclecast.export.adopt.graph import frame_graph
from cyclecast.export.agreement import SIZES, Agreement, center_crop_resize, check_finite, compare
from cyclecast.files import atomic_write, check_output, write_error
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import ModelSpec

TRIED_AT = (256, 256)  # (width, height) of the test image for a model of any size


@dataclass(frozen=True)
class Adopted:
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
) -> Adopted:
    """Writes the model at `path` as a frame model to `output`, atomically, with its weights in the same file.

    frames: images to try it on, (H, W, 3) uint8 BGR, any size. overrides: settings that replace detection. For a model
    of one size, the frame model stretches frames to that size, and its outputs back. check: compare with the original in ONNX
    Runtime, and keep the file only if they agree within a gray level and have no NaN. on_finding: called with each finding.

    Raises ModelError if the file is not an image-to-image model, cannot be run or upgraded to opset 18, or fails the check;
    ConfigError for a setting that is neither detected nor in `overrides`; OutputError if the output exists or cannot be
    written.
    """
    if not frames:
        raise ConfigError("expected at least one image to try the model on")
    check_output(output, overwrite)
    try:
        foreign = read_foreign(path)
        original, convention, findings = infer_convention(
            foreign, frames[0], overrides or Overrides(), on_finding or (lambda finding: None)
        )
        spec = ModelSpec(
            name=output.stem,
            recipe="adopted",
            architecture=_architecture(convention),
            precision=foreign.precision,
            version=__version__,
        )
        model = frame_graph(foreign.model, convention, spec)
    except (ConfigError, ModelError) as error:
        raise type(error)(f"{path}: {error}") from error
    with atomic_write(output, overwrite) as partial:
        try:
            partial.write_bytes(model.SerializeToString(deterministic=True))
        except OSError as error:
            raise write_error(error) from error
        return Adopted(spec, findings, _verify(partial, original, convention, frames) if check else [])


def infer_convention(
    foreign: ForeignModel, frame: Image, overrides: Overrides, on_finding: Callable[[Finding], None]
) -> tuple[Original, Convention, list[Finding]]:
    """Opens the model in ONNX Runtime and detects its input and output convention. Returns both and the findings.

    frame: an image to try the model on. Errors: see `adopt`.
    """
    findings: list[Finding] = []

    def note(finding: Finding) -> str:
        findings.append(finding)
        on_finding(finding)
        return finding.value

    if foreign.has_frames and overrides.color is None and {color for color, _ in evidence.color_evidence(foreign)} != {"rgb"}:
        raise ModelError("already a frame model: use it as it is, or add --color rgb if its input is RGB")
    layout = note(evidence.find_layout(foreign, overrides.layout))
    original = Original(foreign, layout)
    size = evidence.fixed_size(foreign.input, layout)
    output_layout, multiple, finding = evidence.find_multiple(original, size, overrides.multiple)
    note(finding)
    image = center_crop_resize(frame, *(size or TRIED_AT))
    half = image.shape[1] // 2
    image[:, half:] = 255 - image[:, half:]  # invert one half, so that dark and bright balance

    def run_in_range(range: str) -> Array:
        return original(to_input(image, range, "bgr", multiple))

    answers: dict[str, str] = {}
    problems = []
    for find in (
        lambda: evidence.find_range(foreign, run_in_range, overrides.range, overrides.output_range),
        lambda: (evidence.find_color(foreign, overrides.color),),
    ):
        try:
            answers |= {finding.what: note(finding) for finding in find()}
        except ConfigError as error:  # report all missing settings at once
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    convention = Convention(
        layout=layout,
        output_layout=output_layout,
        range=answers["range"],
        output_range=answers["output range"],
        color=answers["color"],
        size=size,
        multiple=multiple,
    )
    return original, convention, findings


def _architecture(convention: Convention) -> dict[str, Any]:
    return {
        "layout": convention.layout,
        "range": convention.range,
        "output_range": convention.output_range,
        "color": convention.color,
        "size": convention.size,
        "multiple": convention.multiple,
    }


def _verify(path: Path, original: Original, convention: Convention, frames: Sequence[Image]) -> list[Agreement]:
    """Compares the frame model at `path` with `original.style`, both in ONNX Runtime; ModelError if they differ."""
    sizes: Sequence[tuple[int, int]] = SIZES
    if convention.size is not None:
        width, height = convention.size
        sizes = [convention.size, (2 * width + 5, height // 2 + 16)]  # the second one shrinks one side and enlarges the other
    report = []
    with closing(open_engine(path, "onnxruntime", "cpu")) as engine:
        check_finite(path, frames, sizes, engine.precision)
        for width, height in sizes:
            fitted = [center_crop_resize(frame, width, height) for frame in frames]
            pairs = ((engine.run(frame), original.style(frame, convention)) for frame in fitted)
            report.append(compare((width, height), pairs, "fp32"))
    worst = max(report, key=lambda agreement: agreement.max_abs)
    if not all(agreement.passed for agreement in report):
        size = f"{worst.size[0]}x{worst.size[1]}"
        raise ModelError(
            f"the frame model differs from {original.path} by {worst.max_abs} gray levels at {size}, so it was not kept"
        )
    return report
