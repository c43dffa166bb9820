"""Somebody's image-to-image ONNX model -> a frame model. Needs onnx and onnxruntime, not torch."""

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
from cyclecast.export.adopt.foreign import Array, Convention, Foreign, Image, Original, fed, read_foreign
from cyclecast.export.adopt.graph import frame_graph
from cyclecast.export.agreement import SIZES, Agreement, center_crop_resize, check_finite, compare
from cyclecast.files import atomic_write, check_output, write_error
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import ModelSpec

TRIED_AT = (256, 256)  # (width, height) of the picture that shows the range of a model of any size


@dataclass(frozen=True)
class Adopted:
    """What was found out, and how far the frame model is from the original."""

    spec: ModelSpec
    findings: list[Finding]
    agreements: list[Agreement]


def adopt(
    path: Path,
    output: Path,
    frames: Sequence[Image],
    given: Overrides | None = None,
    *,
    check: bool = True,
    overwrite: bool = False,
    tell: Callable[[Finding], None] | None = None,
) -> Adopted:
    """Writes the model at `path` as a frame model to `output`, whole or not at all, its weights inside.

    frames: pictures to try it on, (H, W, 3) uint8 BGR, any size. given: what is not to be found out. A model of one size
    has frames stretched to it, and its pictures back. check: run it in ONNX Runtime beside the original, and keep it only if
    they agree to a gray level and hold no NaN. tell: is given each finding when it is made.

    ModelError if it is no model of pictures, cannot be run or brought to opset 18, or if the check fails; ConfigError for
    what must be given and is not; OutputError if the output exists or cannot be written.
    """
    if not frames:
        raise ConfigError("a model is tried on pictures: give one at the least")
    check_output(output, overwrite)
    try:
        foreign = read_foreign(path)
        original, convention, findings = infer_convention(
            foreign, frames[0], given or Overrides(), tell or (lambda finding: None)
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
        return Adopted(spec, findings, _checked(partial, original, convention, frames) if check else [])


def infer_convention(
    foreign: Foreign, frame: Image, given: Overrides, tell: Callable[[Finding], None]
) -> tuple[Original, Convention, list[Finding]]:
    """The model, open in ONNX Runtime, and how it wants its pictures; frame: one to try it on. Errors as in `adopt`."""
    findings: list[Finding] = []

    def note(finding: Finding) -> str:
        findings.append(finding)
        tell(finding)
        return finding.value

    if foreign.frames and given.color is None and {color for color, _ in evidence.color_evidence(foreign)} != {"rgb"}:
        raise ModelError("a frame model already: use it as it is, or give --color rgb if it takes RGB")
    layout = note(evidence.find_layout(foreign, given.layout))
    original = Original(foreign, layout)
    size = evidence.fixed_size(foreign.takes, layout)
    gives_layout, multiple, finding = evidence.find_multiple(original, size, given.multiple)
    note(finding)
    picture = center_crop_resize(frame, *(size or TRIED_AT))
    half = picture.shape[1] // 2
    picture[:, half:] = 255 - picture[:, half:]  # half of it its own negative: as much dark as bright

    def look(range: str) -> Array:
        return original(fed(picture, range, "bgr", multiple))

    answers: dict[str, str] = {}
    problems = []
    for find in (
        lambda: evidence.find_range(foreign, look, given.range, given.output_range),
        lambda: (evidence.find_color(foreign, given.color),),
    ):
        try:
            answers |= {finding.what: note(finding) for finding in find()}
        except ConfigError as error:  # all that must be given is asked for at once
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    convention = Convention(
        layout=layout,
        gives_layout=gives_layout,
        range=answers["range"],
        gives_range=answers["output range"],
        color=answers["color"],
        size=size,
        multiple=multiple,
    )
    return original, convention, findings


def _architecture(convention: Convention) -> dict[str, Any]:
    return {
        "layout": convention.layout,
        "range": convention.range,
        "output_range": convention.gives_range,
        "color": convention.color,
        "size": convention.size,
        "multiple": convention.multiple,
    }


def _checked(path: Path, original: Original, convention: Convention, frames: Sequence[Image]) -> list[Agreement]:
    """The frame model at `path` against the original with numpy around it, both in ONNX Runtime; ModelError if they differ."""
    sizes: Sequence[tuple[int, int]] = SIZES
    if convention.size is not None:
        width, height = convention.size
        sizes = [convention.size, (2 * width + 5, height // 2 + 16)]  # the other one: shrunk along one side, enlarged along one
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
        raise ModelError(f"not kept: the frame model differs from {original.path} by {worst.max_abs} gray levels at {size}")
    return report
