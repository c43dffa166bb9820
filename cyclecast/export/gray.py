"""Gray images: weights of the conversion, and the channels that a frame model can have. Needs neither torch nor onnx."""

from __future__ import annotations

from cyclecast.errors import ConfigError, ModelError

GRAY_WEIGHTS: dict[str, tuple[float, float, float]] = {"luma": (0.114, 0.587, 0.299), "mean": (1 / 3, 1 / 3, 1 / 3)}
"""Weights of blue, green and red in a gray image. luma: ITU-R BT.601, as in PIL and OpenCV."""


def check_channels(inputs: int, outputs: int) -> None:
    """Raises ModelError unless frames can be converted to this number of input channels, and the outputs to frames."""
    if inputs in (1, 3) and outputs in (1, 3):
        return
    what = ", colorization in Lab, whose output has no brightness" if (inputs, outputs) == (1, 2) else ""
    raise ModelError(f"a generator of {inputs} -> {outputs} channels{what}; expected 1 (gray) or 3 (RGB) on each side")


def check_gray(gray: str | None) -> None:
    """Raises ConfigError unless this is None or a key of `GRAY_WEIGHTS`."""
    if gray not in (None, *GRAY_WEIGHTS):
        raise ConfigError(f"gray must be {' or '.join(GRAY_WEIGHTS)}, got {gray!r}")
