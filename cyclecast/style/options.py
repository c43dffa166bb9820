"""The settings of `make_style` and its report."""

from __future__ import annotations

from dataclasses import dataclass, field

from cyclecast.style.plan import MINUTES
from cyclecast.style.teacher import TeacherView


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """How `make_style` learns a look."""

    minutes: float | None = None
    """Time for everything. None: 20, or as long as `steps` take."""
    steps: int | None = None
    """Training steps, instead of `minutes`."""
    preset: str = "base"
    """Size of the generator: nano, small or base."""
    strength: float = 1.0
    """Share of the style in the output of the finished model, from 0 to 1; the rest is the source."""
    seed: int = 0
    overwrite: bool = False
    """Replaces an existing output, and starts anew if the folder holds another style."""
    view: TeacherView = TeacherView()
    """How a generator sees the footage, if the look is one."""
    color: str | None = None
    """Color order of a foreign ONNX model, bgr or rgb. None: detected."""
    key: str | None = None
    """The generator to imitate, if its .pth holds several: its name or a part of it. None: the only one."""

    author: str = ""
    """Who made the model, for its metadata."""
    license: str = ""
    """The license of the model, for its metadata: an SPDX identifier."""

    @property
    def allowed_minutes(self) -> float:
        """Minutes that everything may take, unless `steps` is set."""
        return MINUTES if self.minutes is None else self.minutes


@dataclass(frozen=True)
class StyleReport:
    """What `cyclecast style --json` prints."""

    output: str
    card: str
    sheet: str
    page: str
    """The page of the training run (HTML)."""
    recipe: str
    frames: int
    """Frames extracted from the footage."""
    pairs: int
    steps: int
    seconds: dict[str, float]
    """Stage -> seconds that it took, over all calls."""
    figures: dict[str, float] = field(default_factory=dict)
    """See `cyclecast.style.result.Figures`; without those that were not measured."""
