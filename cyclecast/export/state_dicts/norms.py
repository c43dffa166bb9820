"""Finds the norm layers of a generator: from the tensors of its norms, what torch recorded, and its convolutions' biases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from torch import Tensor

from cyclecast.errors import ConfigError
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.state_dicts.layers import STATISTICS, Layout
from cyclecast.training.networks.layers import AnyNorm, Norm

BATCH_NORMS = ("image", "running")
"""Statistics of a batch norm. image: of the image itself, as that project's test.py; running: of the training images (--eval)."""
NORM_VERSION = 2
"""torch.save records the version of each module's state. That of a norm layer is 2 since PyTorch 0.4.1, of all others 1."""


def find_norm(
    tensors: Mapping[str, Tensor],
    layout: Layout,
    versions: Mapping[str, object],
    norm: str | None = None,
    batch_norm: str | None = None,
) -> tuple[AnyNorm, list[Finding]]:
    """Finds the norm; returns it as an argument of `build_generator`, with the findings.

    versions: what torch recorded, by the names of modules, see `NORM_VERSION`. norm: overrides what the file shows, where the
    keys allow it. batch_norm: statistics of batch norms; None: those that the keys' project uses. One image's
    batch norm is an instance norm with a learned scale, `affine`.

    Raises ConfigError if the keys do not show the norm, or if norm or batch_norm do not fit them.
    """
    if norm not in (None, *get_args(Norm)):
        raise ConfigError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    if batch_norm not in (None, *BATCH_NORMS):
        raise ConfigError(f"batch_norm must be {' or '.join(BATCH_NORMS)}, got {batch_norm!r}")
    normed = [layer for layer in layout.layers if layer.their_norm]
    stored = {name: [f"{layer.their_norm}.{name}" in tensors for layer in normed] for name in ("weight", *STATISTICS)}
    has_weights, has_statistics = any(stored["weight"]), any(any(stored[name]) for name in STATISTICS)
    if has_weights:
        if norm == "none":
            raise ConfigError("norm none does not fit: the file has the weights of norms; leave norm out")
        if has_statistics and norm != "instance":
            return _batch_norm(batch_norm, layout.is_ours)
        why = "statistics of each image: its norms have weights" + ("; as requested" if norm else ", but no running statistics")
        found: tuple[AnyNorm, Finding] = ("affine", Finding("norm", "instance", why))
    else:
        if norm == "batch":
            raise ConfigError("norm batch does not fit: the file has no weights of norms; the alternatives are instance and none")
        present = [layer.theirs for layer in normed if f"{layer.theirs}.weight" in tensors]
        biased = [f"{name}.bias" in tensors for name in present]
        recorded = {versions.get(layer.their_norm) for layer in normed}
        if norm is not None:
            found = ("none" if norm == "none" else "instance"), Finding("norm", norm, "as requested")
        elif has_statistics:  # of instance norms, from before PyTorch 0.4
            found = "instance", Finding("norm", "instance", "its norms have statistics, but no weights")
        elif layout.is_ours and len(set(biased)) == 1:
            value: Norm = "none" if biased[0] else "instance"
            found = value, Finding("norm", value, "in cyclecast's networks, a convolution has a bias if no norm follows")
        else:
            found = _norm_from_biases(biased, recorded)
    if batch_norm is not None and (found[0], batch_norm) != ("affine", "image"):
        raise ConfigError(f"batch_norm is for batch norms, but the norm is {found[1].value}: leave batch_norm out")
    return found[0], [found[1]]


def _batch_norm(statistics: str | None, is_ours: bool) -> tuple[AnyNorm, list[Finding]]:
    why = "its norms have weights and running statistics"
    if statistics == "running":
        return "batch", [Finding("norm", "batch", why), Finding("batch norm", "running", "as requested: as test.py --eval")]
    if is_ours and statistics is None:
        ours = "statistics of the training images, as `export RUN`; the alternative is --batch-norm image"
        return "batch", [Finding("norm", "batch", why), Finding("batch norm", "running", ours)]
    reason = "as requested" if statistics else "the alternative is --batch-norm running, as test.py --eval"
    image = Finding("batch norm", "image", f"statistics of each frame, as that project's test.py; {reason}")
    return "affine", [Finding("norm", "batch", why), image]


def _norm_from_biases(biased: Sequence[bool], recorded: Collection[object]) -> tuple[AnyNorm, Finding]:
    if recorded == {NORM_VERSION}:
        return "instance", Finding("norm", "instance", "torch recorded norm layers in the file, and they have no weights")
    if all(biased):
        why = "assumed, since its convolutions have biases and its norms no weights; the alternative is --norm none"
        return "instance", Finding("norm", "instance", why)
    if not any(biased) and recorded == {1}:
        return "none", Finding("norm", "none", "torch recorded no norm layers in the file; the alternative is --norm instance")
    if not any(biased):
        why = "its convolutions have no biases, which they have before an instance norm; the alternative is --norm instance"
        return "none", Finding("norm", "none", why)
    raise ConfigError(
        f"{sum(biased)} of {len(biased)} convolutions have a bias, so its keys do not show the norm: "
        "add --norm instance or --norm none"
    )
