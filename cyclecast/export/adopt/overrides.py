"""`Overrides`: the settings of a foreign model that the user sets instead of detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cyclecast.errors import ConfigError
from cyclecast.export.adopt.foreign import COLORS, LAYOUTS, RANGES, ValueRange, normalized_range, value_range
from cyclecast.export.gray import GRAY_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Settings from the user. None: detect it. Raises ConfigError for an unknown value."""

    layout: str | None = None
    """nchw or nhwc."""
    range: str | None = None
    """0..255, 0..1, -1..1 or imagenet: range of the input, and of the output unless another one is detected."""
    output_range: str | None = None
    color: str | None = None
    """bgr or rgb."""
    multiple: int | None = None
    """Sides are padded to multiples of this many pixels."""
    mean: tuple[float, ...] | None = None
    """The program around the model computes (x - mean) / std, for red, green and blue: with x in 0..1, or in 0..255 if a
    mean or a std is greater than 1. Needs `std`, and replaces `range`."""
    std: tuple[float, ...] | None = None
    gray: str = "luma"
    """How a frame is converted for a gray input: luma (ITU-R BT.601) or mean."""
    keep_size: bool = False
    """Keep the fixed size of a model, even if it could be freed."""
    output_name: str | None = None
    """Which of several outputs is the image."""
    set_inputs: Mapping[str, str] = field(default_factory=dict)
    """Values of all inputs but the image: a number, or numbers with commas between them."""

    def __post_init__(self) -> None:
        allowed = {"layout": LAYOUTS, "range": RANGES, "output_range": RANGES, "color": COLORS, "gray": GRAY_WEIGHTS}
        for name, values in allowed.items():
            value = getattr(self, name)
            if value is not None and value not in values:
                raise ConfigError(f"{name} must be one of {', '.join(values)}, got {value!r}")
        if self.multiple is not None and self.multiple < 1:
            raise ConfigError(f"multiple must be 1 or more, got {self.multiple}")
        if (self.mean is None) != (self.std is None) or (self.mean is not None and self.range is not None):
            raise ConfigError("mean and std go together, and without range")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and (len(numbers) != 3 or (name == "std" and min(numbers) <= 0)):
                raise ConfigError(
                    f"{name} must be three numbers, of red, green and blue{' above 0' * (name == 'std')}, got {numbers}"
                )

    @property
    def normalization(self) -> str | None:
        """Returns the name of the range that mean and std define; None without them."""
        if self.mean is None or self.std is None:
            return None
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} std {std}"

    def range_of(self, name: str, color: str) -> ValueRange:
        """Returns the range of this name, which may be `normalization`. color: the order of the model's channels."""
        if name != self.normalization or self.mean is None or self.std is None:
            return value_range(name, color)
        order = 1 if color == "rgb" else -1
        return normalized_range(name, self.mean[::order], self.std[::order])
