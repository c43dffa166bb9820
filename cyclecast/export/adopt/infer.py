"""Infers a foreign model's convention from its file and from trials in ONNX Runtime."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt import evidence
from cyclecast.export.adopt.foreign import Array, Convention, ForeignModel, Image
from cyclecast.export.adopt.free_size import free_size, is_same_network
from cyclecast.export.adopt.original import Original
from cyclecast.export.adopt.overrides import Overrides
from cyclecast.export.adopt.sizes import (
    Finding,
    OutputSpec,
    find_layout,
    find_multiple,
    fixed_size,
    input_channels,
    multiples_of,
    output_spec,
)
from cyclecast.export.agreement import center_crop_resize

log = logging.getLogger(__name__)

TRIAL_SIZE = (256, 256)  # (width, height) of the test image for a model of any size


@dataclass(frozen=True)
class InferredModel:
    """A foreign model with its convention, and how that was inferred."""

    convention: Convention
    original: Original
    """The file in ONNX Runtime."""
    reference: Original
    """The same, or the model with a free size, for frames of other sizes than the file's."""
    model: onnx.ModelProto
    """The graph to wrap."""
    findings: list[Finding]
    fixed_at: tuple[int, int] | None = None
    """(width, height) of the file, if `model` is free of it."""


def infer_convention(
    foreign: ForeignModel, frame: Image, overrides: Overrides, on_finding: Callable[[Finding], None]
) -> InferredModel:
    """Opens the model in ONNX Runtime and detects its input and output convention.

    frame: an image to try the model on, (H, W, 3) uint8 BGR. on_finding: called with each finding. Errors: see `adopt`.
    """
    findings: list[Finding] = []

    def note(finding: Finding) -> str:
        findings.append(finding)
        on_finding(finding)
        return finding.value

    if foreign.has_frames and overrides.color is None and {color for color, _ in evidence.color_evidence(foreign)} != {"rgb"}:
        raise ModelError("already a frame model: use it as it is, or add --color rgb if its input is RGB")
    layout = note(find_layout(foreign.input, overrides.layout))
    channels = input_channels(foreign.input, layout)
    original = Original(foreign, layout)
    size = fixed_size(foreign.input, layout)
    multiple = 1
    if size is None:
        output, multiple, finding = find_multiple(original, layout, channels, overrides.multiple)
        note(finding)
    else:
        output = output_spec(original, layout, channels, size[1], size[0])
    image = center_crop_resize(frame, *(size or TRIAL_SIZE))
    half = image.shape[1] // 2
    image[:, half:] = 255 - image[:, half:]  # invert one half, so that dark and bright balance

    def convention_of(range: str, output_range: str, color: str) -> Convention:
        return Convention(
            layout=layout,
            output_layout=output.layout,
            range=overrides.range_of(range, color),
            output_range=overrides.range_of(output_range, color),
            color=color,
            channels=channels,
            output_channels=output.channels,
            gray=overrides.gray,
            size=size,
            multiple=multiple,
        )

    def run_in_range(range: str) -> Array:
        return original(convention_of(range, range, "bgr").to_input(image))

    answers = {"color": "bgr"}
    problems = []
    requested = overrides.normalization or overrides.range
    for find in (
        lambda: evidence.find_range(foreign, run_in_range, requested, overrides.output_range),
        lambda: () if channels == output.channels == 1 else (evidence.find_color(foreign, overrides.color),),
    ):
        try:
            answers |= {finding.what: note(finding) for finding in find()}
        except ConfigError as error:  # report all missing settings at once
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    for finding in _gray_findings(channels, output, overrides.gray):
        note(finding)
    convention = convention_of(answers["range"], answers["output range"], answers["color"])
    inferred = InferredModel(convention, original, original, foreign.model, findings)
    if size is None:
        return inferred
    freed = None if overrides.keep_size else _free_model(foreign, inferred, image, output, overrides.multiple)
    if freed is not None:
        note(
            Finding(
                "size", "any", f"freed from {size[0]}x{size[1]}, where its output stays the same (--keep-size keeps it fixed)"
            )
        )
        note(freed[1])
        return freed[0]
    if overrides.multiple is not None:
        raise ConfigError(f"its input is fixed to {size[0]}x{size[1]}: --multiple is for models of any size")
    why = "as requested" if overrides.keep_size else "fixed"
    note(Finding("size", f"{size[0]}x{size[1]}", f"{why}: frames are scaled to fit into it, with their aspect ratio"))
    return inferred


def _gray_findings(channels: int, output: OutputSpec, gray: str) -> list[Finding]:
    findings = []
    if channels == 1:
        formula = {"luma": "0.299 R + 0.587 G + 0.114 B, ITU-R BT.601; --gray mean is the alternative", "mean": "as requested"}
        findings.append(Finding("gray input", gray, formula[gray]))
    if output.channels == 1:
        findings.append(Finding("gray output", "shown as gray", "its one channel is repeated in all three"))
    return findings


def _free_model(
    foreign: ForeignModel, fixed: InferredModel, image: Image, output: OutputSpec, multiple: int | None
) -> tuple[InferredModel, Finding] | None:
    """Returns the model with a free size, and the finding of its multiple; None if it does not compute the same."""
    model, size = free_size(foreign, fixed.convention.layout), fixed.convention.size
    if model is None or size is None:
        return None
    x = fixed.convention.to_input(image.astype(np.float32))
    try:
        freed = Original(foreign, fixed.convention.layout, model)
        if not is_same_network(fixed.original, freed, x, output.layout):
            return None
        multiples = multiples_of(size)
        settings = (fixed.convention.layout, fixed.convention.channels, multiple, multiples)
        found, multiple, finding = find_multiple(freed, *settings)
    except ModelError as error:
        log.debug("its size stays fixed: %s", error)
        return None
    if found != output:
        return None
    convention = dataclasses.replace(fixed.convention, size=None, multiple=multiple)
    fixed_at = None if any(side % multiple for side in size) else size  # a requested multiple may pad the file's own size
    return dataclasses.replace(fixed, convention=convention, reference=freed, model=model, fixed_at=fixed_at), finding
