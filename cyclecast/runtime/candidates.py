"""The engines and devices that `auto` chooses from, the best first."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Candidate:
    """An engine on a device, and the reason for its place in the order."""

    engine: str
    """A key of `ENGINES`."""
    device: str
    """As in `--device`."""
    reason: str
    is_tried: bool = True
    """Whether `auto` compares a frame of it with the CPU's before it chooses it. The CPU itself is not compared."""


CANDIDATES = (
    Candidate("tensorrt", "gpu", "NVIDIA GPUs; not tried, because building its plan for a size takes minutes", is_tried=False),
    Candidate("tensorrt-rtx", "gpu", "NVIDIA RTX GPUs; builds a plan in seconds"),
    Candidate("onnxruntime", "cuda", "NVIDIA GPUs, without a plan"),
    Candidate("openvino", "gpu", "Intel GPUs, a discrete one before an integrated one; leaves the CPU to other programs"),
    Candidate("openvino", "npu", "Intel NPUs; leaves CPU and GPU to other programs"),
    Candidate("onnxruntime", "coreml", "Macs: their GPU and Neural Engine"),
    Candidate("webgpu", "gpu", "GPUs of AMD, Apple and others, where the extra `webgpu` is installed"),
    Candidate(
        "openvino", "cpu", "the fastest engine on CPUs: bundled models in int8 (x86), others in bf16 where the CPU computes it"
    ),
    Candidate("onnxruntime", "cpu", "CPUs and models that OpenVINO does not support"),
)
OWN_ROWS = ("cpu", "npu", "coreml")  # devices that only the engines with a row for them have


def find_candidates(engines: Container[str], device: str) -> list[Candidate]:
    """Returns the candidates of these engines for the requested device, the best first.

    For a device of `OWN_ROWS`, these are the rows with it. Any other one replaces a candidate's own, and each engine is then
    returned once. An empty list: `auto` chooses none of the engines.
    """
    found = [candidate for candidate in CANDIDATES if candidate.engine in engines]
    if device == "auto":
        return found
    if device in OWN_ROWS:
        return [candidate for candidate in found if candidate.device == device]
    by_engine: dict[str, Candidate] = {}
    for candidate in found:
        by_engine.setdefault(candidate.engine, replace(candidate, device=device))
    return list(by_engine.values())
