"""The active model, and everything about the styled frame that can change during a run, from any thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto

from cyclecast.errors import ConfigError
from cyclecast.video.frame import Image
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.messages import OnMessage, suppress_errors
from cyclecast.video.live.styling.open_model import ActiveModel, Opener, OpenModel, Target
from cyclecast.video.strength import check_strength

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 5.0  # that `close` waits for a model that is still being opened: a TensorRT plan can take minutes


class State(Enum):
    """What a `StyleSwitcher` is doing."""

    IDLE = auto()
    """The active model runs, and nothing else is going on."""
    OPENING = auto()
    """The worker thread opens and compiles the requested model."""
    READY = auto()
    """The requested model is open; the next frame activates it."""
    CLOSED = auto()


TRANSITIONS = {
    State.IDLE: (State.OPENING, State.CLOSED),
    State.OPENING: (State.READY, State.IDLE, State.CLOSED),
    State.READY: (State.IDLE, State.CLOSED),
    State.CLOSED: (),
}


class StyleSwitcher:
    """Styles frames with the active model, and opens another model or height beside it without a pause.

    Any thread may request a model, a height or a strength. All requests go into one queue, each with the complete target
    (model, height and strength). One worker thread takes them out; a newer request replaces older ones that still wait. A
    strength applies from the next frame on, also while a model opens, because no model must be opened for it.

        IDLE ----request----> OPENING ----opened----> READY ----next frame----> IDLE
          ^                      |
          +------- failed -------+            (any state) ----close----> CLOSED

    Whatever goes wrong while a model opens (a missing file, no memory, an error of a library) is reported in one line, and
    the active model stays. Calls and `prepare` belong to one thread, the one that styles frames.

    models: names for `opener`; the first is opened at once. Raises ConfigError if there is none, or for an invalid strength.
    """

    def __init__(
        self,
        models: Sequence[str],
        opener: Opener,
        work_height: int | None = None,
        on_message: OnMessage | None = None,
        strength: float = 1.0,
    ) -> None:
        if not models:
            raise ConfigError("no model is given")
        check_strength(strength)
        self.models = list(dict.fromkeys(models))
        """The names that can be requested."""
        self.split: float | None = None
        """As `StyledFrame.split`."""
        self.mirror = False
        """Whether the source is flipped left to right."""
        self.switches = 0
        """How many times another model or height has become active."""
        self._opener, self._on_message = opener, suppress_errors(on_message)
        self._requested = Target(self.models[0], work_height, strength)
        self._active = ActiveModel(self._requested, opener(self.models[0]))
        self._ready: ActiveModel | None = None
        self._retired: list[ActiveModel] = []
        self._requests: deque[Target] = deque()
        self._size: tuple[int, int] | None = None  # (width, height) of the source's frames
        self._state = State.IDLE
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="style-switcher", daemon=True)
        self._worker.start()

    @property
    def state(self) -> State:
        """What the switcher is doing now."""
        return self._state

    @property
    def active_model(self) -> str:
        """The name of the active model, as the user typed it."""
        return self._active.target.name

    @property
    def requested_model(self) -> str:
        """The name of the model that was requested last; differs from `active_model` while that model is being opened."""
        return self._requested.name

    @property
    def work_height(self) -> int | None:
        """The height at which the active model runs, in pixels; None: the source's."""
        return self._active.target.height

    @property
    def requested_height(self) -> int | None:
        """The height that was requested last; falls back to `work_height` when it could not be used."""
        return self._requested.height

    @property
    def strength(self) -> float:
        """Share of the styled frame in the next output, from 0 (the source) to 1: the one that was requested last."""
        return self._requested.strength

    def request_model(self, name: str) -> None:
        """Requests a model by its name in `models`; it becomes active as soon as it is open. ConfigError for other names."""
        if name not in self.models:
            raise ConfigError(f"no model {name!r} was given; there are: {', '.join(self.models)}")
        with self._changed:
            self._request(replace(self._requested, name=name))

    def request_next_model(self, step: int = 1) -> None:
        """Requests the model `step` places after the one that was requested last."""
        with self._changed:
            index = self.models.index(self._requested.name) + step
            self._request(replace(self._requested, name=self.models[index % len(self.models)]))

    def request_height(self, height: int | None) -> None:
        """Requests another processing height in pixels; None: the source's."""
        with self._changed:
            self._request(replace(self._requested, height=height))

    def request_strength(self, strength: float) -> None:
        """Requests the share of the styled frame in the output. Raises ConfigError unless it is from 0 to 1."""
        check_strength(strength)
        with self._changed:
            self._request(replace(self._requested, strength=strength))

    def _request(self, target: Target) -> None:
        """Puts a target into the queue. The caller holds the lock, so that no other request comes between."""
        self._requested = target
        self._requests.append(target)
        self._changed.notify_all()

    def has_size(self, width: int, height: int) -> bool:
        """Returns whether the models are compiled for source frames of this size."""
        return self._size == (width, height)

    def prepare(self, width: int, height: int) -> None:
        """Compiles the active model for source frames of this size, however long that takes.

        If that fails, it raises what the model raises, and the size before stays.
        """
        self._activate_ready()
        with self._changed:
            before, self._size = self._size, (width, height)
            self._changed.notify_all()
        try:
            self._active.prepare(width, height)
        except BaseException:
            with self._changed:
                self._size = before
            raise

    def __call__(self, image: Image) -> Image:
        """Styles (H, W, 3) uint8 BGR -> the same shape, with the newest model that is ready. Raises whatever the model raises."""
        self._activate_ready()
        return self._active(image)

    def _activate_ready(self) -> None:
        """Activates a model that is ready: READY -> IDLE. Takes no time: the worker thread closes the old model."""
        with self._changed:
            if self._state is not State.READY or self._ready is None:
                return
            self._retired.append(self._active)
            self._active, self._ready = self._ready, None
            self.switches += 1
            self._set_state(State.IDLE)

    def _set_state(self, state: State) -> None:
        """Changes the state; nothing else does. The caller holds the lock."""
        assert state in TRANSITIONS[self._state], f"{self._state} -> {state}"
        self._state = state
        self._changed.notify_all()

    def _work(self) -> None:
        """Runs in the worker thread: closes replaced models and opens requested ones, until the switcher is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._retired or self._state is State.CLOSED or self._has_request())
                retired, self._retired = self._retired, []
                closed = self._state is State.CLOSED
                target = None if closed else self._take_request()
            for old in retired:
                if old.target.name != self.active_model:
                    self._on_message(f"switched from {old.target.name} to {self.active_model}")
                _close(old.model)
            if closed:
                return
            if target is not None:
                self._open(target)

    def _has_request(self) -> bool:
        return self._state is State.IDLE and bool(self._requests)

    def _take_request(self) -> Target | None:
        """Takes the newest request out of the queue: IDLE -> OPENING. None if there is none or it is already active."""
        if not self._has_request():
            return None
        target = self._requests[-1]
        self._requests.clear()
        if target == self._active.target:
            return None
        self._set_state(State.OPENING)
        return target

    def _open(self, target: Target) -> None:
        """Opens the requested model: OPENING -> READY, or IDLE with a message if anything failed."""
        try:
            opened = self._open_for_size(target)
        except BaseException as error:  # libraries raise whatever they like, and this thread must continue
            log.debug("could not load %s at height %s", target.name, target.height, exc_info=True)
            self._give_up(target, failure_text(error))
            return
        with self._changed:
            if opened is not None and self._state is State.OPENING:
                self._ready = opened
                self._set_state(State.READY)
                return
            if self._state is State.OPENING:
                self._set_state(State.IDLE)
        if opened is not None:
            _close(opened.model)

    def _open_for_size(self, target: Target) -> ActiveModel | None:
        """Opens and compiles a model for the frames' current size; None if a newer request or `close` came first."""
        opened = ActiveModel(target, self._opener(target.name))
        try:
            compiled: tuple[int, int] | None = None
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._size or self._requests or self._state is State.CLOSED)
                    size = self._size
                if size is None:  # there was no frame yet, and nobody waits for this model any more
                    _close(opened.model)
                    return None
                if size == compiled:
                    return opened
                opened.prepare(*size)
                compiled = size
        except BaseException:
            _close(opened.model)
            raise

    def _give_up(self, target: Target, reason: str) -> None:
        """Takes the failed part out of the last request and keeps the rest of it: OPENING -> IDLE. Reports the failure."""
        active = self._active.target
        with self._changed:
            requested = self._requested
            if target.name != active.name:
                message = f"could not load {target.name} ({reason}); keeping {active.name}"
                if requested.name == target.name:
                    requested = replace(requested, name=active.name)
            else:
                message = f"could not run {target.name} at {_height(target)} ({reason}); keeping {_height(active)}"
                if requested.height == target.height:
                    requested = replace(requested, height=active.height)
            self._request(requested)
            if self._state is State.OPENING:
                self._set_state(State.IDLE)
        self._on_message(message)

    def close(self) -> None:
        """Closes all models. Call it when no thread styles frames any more. A model that is still being opened is abandoned."""
        with self._changed:
            if self._state is State.CLOSED:
                return
            self._set_state(State.CLOSED)
            left = [self._active] + ([self._ready] if self._ready is not None else [])
        self._worker.join(CLOSE_TIMEOUT_S)
        for active in left:
            _close(active.model)


def _close(model: OpenModel) -> None:
    """Closes a model; an error of its library is only logged, because nothing depends on it any more."""
    try:
        model.close()
    except Exception:
        log.debug("closing %s failed", model.name, exc_info=True)


def _height(target: Target) -> str:
    return "the source's height" if target.height is None else f"height {target.height}"
