"""The model at work, and everything about the picture that can be changed while it works, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cyclecast.errors import ConfigError, CyclecastError
from cyclecast.video.frame import FrameFunction, Image
from cyclecast.video.live.capture.client import OnMessage
from cyclecast.video.resize import style_frame, work_size

OPENING = 5.0  # seconds that a model may still take to open when the run ends: a plan can take minutes


class OpenModel(FrameFunction, Protocol):
    """A frame function that has a name and is closed in the end."""

    @property
    def name(self) -> str: ...

    def close(self) -> None: ...


Opener = Callable[[str], OpenModel]
"""Opens a model by the name that the user gave; CyclecastError if it cannot."""


class BorrowedModel:
    """A model that somebody else opened and will close."""

    def __init__(self, name: str, function: FrameFunction) -> None:
        self.name, self._function = name, function

    @property
    def identity(self) -> str | None:
        """The function's."""
        return self._function.identity

    def __call__(self, frame: Image) -> Image:
        return self._function(frame)

    def prepare(self, width: int, height: int) -> None:
        """As the function."""
        self._function.prepare(width, height)

    def close(self) -> None:
        """Is for its owner to do."""


@dataclass
class ActiveModel:
    """A model, open, at the height it is to run at."""

    given: str
    """The name by which it was opened."""
    model: OpenModel
    height: int | None
    """Lines; None: the source's."""


class StyleSwitcher:
    """Turns pictures into styled ones. Another model or height is opened beside the one at work, and takes over when it is ready.

    models: names that `opener` takes; the first is opened at once. ConfigError if there is none.
    """

    def __init__(
        self, models: Sequence[str], opener: Opener, work_height: int | None = None, on_message: OnMessage | None = None
    ) -> None:
        if not models:
            raise ConfigError("no model is given")
        self.models = list(dict.fromkeys(models))
        """What can be chosen."""
        self.split: float | None = None
        """As `StyledFrame.split`."""
        self.mirror = False
        """Left and right change places, as in a mirror."""
        self.switches = 0
        """How many times another model or height has taken over."""
        self._opener, self._news = opener, on_message or (lambda line: None)
        self._size: tuple[int, int] | None = None  # of the pictures
        self._wanted = (self.models[0], work_height)
        self._at_work = ActiveModel(self.models[0], opener(self.models[0]), work_height)
        self._ready: ActiveModel | None = None
        self._retired: list[ActiveModel] = []
        self._changed = threading.Condition()
        self._closing = False
        self._changer = threading.Thread(target=self._change, name="look", daemon=True)
        self._changer.start()

    @property
    def active_model(self) -> str:
        """The name, as given, of the active model."""
        return self._at_work.given

    @property
    def requested_model(self) -> str:
        """The name of the model that was requested last; differs from `active_model` while that model is opened."""
        return self._wanted[0]

    @property
    def opened(self) -> OpenModel:
        """The model at work."""
        return self._at_work.model

    @property
    def work_height(self) -> int | None:
        """Lines at which it runs; None: those of the source."""
        return self._at_work.height

    def request_model(self, name: str) -> None:
        """Requests a model by its name in `models`; it becomes active as soon as it is open. ConfigError for other names."""
        if name not in self.models:
            raise ConfigError(f"no model {name!r} was given; there are: {', '.join(self.models)}")
        self._want((name, self._wanted[1]))

    def request_next_model(self, step: int = 1) -> None:
        """Requests the model `step` places after the one that was requested last."""
        self.request_model(self.models[(self.models.index(self._wanted[0]) + step) % len(self.models)])

    def request_height(self, height: int | None) -> None:
        """Requests another working height; None: the source's."""
        self._want((self._wanted[0], height))

    def _want(self, wanted: tuple[str, int | None]) -> None:
        with self._changed:
            self._wanted = wanted
            self._changed.notify_all()

    def fits(self, width: int, height: int) -> bool:
        """Whether pictures of this size go through without a wait. For the thread that runs the model, as `prepare` and calls."""
        return self._size == (width, height)

    def prepare(self, width: int, height: int) -> None:
        """Compiles for pictures of this size; takes as long as it takes."""
        self._take_over()
        with self._changed:
            self._size = (width, height)
        self._at_work.model.prepare(*work_size(width, height, self._at_work.height))

    def __call__(self, image: Image) -> Image:
        """(H, W, 3) uint8 BGR -> the same, by the newest model that is ready. Whatever the model raises."""
        self._take_over()
        return style_frame(image, self._at_work.model, self._at_work.height)

    def _take_over(self) -> None:
        """At most a moment: the old one is closed by another thread."""
        with self._changed:
            if self._ready is None:
                return
            self._retired.append(self._at_work)
            self._at_work, self._ready = self._ready, None
            self.switches += 1
            self._changed.notify_all()

    def _change(self) -> None:
        """Opens what is wanted, closes what has been replaced."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._retired or self._is_due())
                retired, self._retired = self._retired, []
                due, closing = self._is_due(), self._closing
            for old in retired:
                old.model.close()
            if closing:
                return
            if due:
                self._open()

    def _is_due(self) -> bool:
        return self._ready is None and self._wanted != (self._at_work.given, self._at_work.height)

    def _open(self) -> None:
        """Opens what is wanted now, ready for pictures of the size that they have now; or tells why not, and wants it no more."""
        with self._changed:
            (name, height), size = self._wanted, self._size
        try:
            model = self._opener(name)
            try:
                if size is not None:
                    model.prepare(*work_size(*size, height))
            except BaseException:
                model.close()
                raise
        except CyclecastError as error:
            self._news(f"{name} cannot take over ({error}); {self.active_model} stays")
            with self._changed:
                if self._wanted == (name, height):
                    self._wanted = (self._at_work.given, self._at_work.height)
            return
        if name != self.active_model:
            self._news(f"{name} takes over from {self.active_model}")
        with self._changed:
            self._ready = ActiveModel(name, model, height)

    def close(self) -> None:
        """Frees what is open; to be called when no thread runs the model any more. One that is being opened is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._changer.join(OPENING)
        for left in (self._ready, self._at_work):
            if left is not None:
                left.model.close()
