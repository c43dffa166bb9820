"""Messages never end what sends them: stderr may be closed, its disk full, a caller's callback wrong."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cyclecast.cli.console import console, print_line
from cyclecast.errors import ModelError
from cyclecast.video.live.capture import client as capture_client
from cyclecast.video.live.capture.client import Capture
from cyclecast.video.live.messages import suppress_errors
from cyclecast.video.live.styling.open_model import BorrowedModel, OpenModel
from cyclecast.video.live.styling.style_switcher import StyleSwitcher
from tests.conftest import Same
from tests.video.live.sessions import wait_for
from tests.video.live.test_live import capturing_process

PATTERN = "pattern://160x96@30"


def raising(error: BaseException) -> Callable[[str], None]:
    def on_message(line: str) -> None:
        raise error

    return on_message


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), BrokenPipeError(), ValueError("closed"), SystemExit(1)])
def test_a_source_returns_although_its_messages_fail(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_client, "RETRY_DELAYS_S", (0.1,))
    with Capture(PATTERN, on_message=raising(error)) as capture:
        wait_for(lambda: capture.captured > 1, "a frame")
        os.kill(capturing_process(), signal.SIGKILL)
        wait_for(lambda: capture.reconnects == 1, "the source again")
        wait_for(lambda: capture.take(0.1) is not None, "a frame of it")


def test_styles_switch_although_messages_fail() -> None:
    def opener(name: str) -> OpenModel:
        if name == "absent":
            raise ModelError("absent: no such file")
        return BorrowedModel(name, Same())

    switcher = StyleSwitcher(["one", "absent", "other"], opener, on_message=raising(BrokenPipeError()))
    frame = np.zeros((32, 32, 3), np.uint8)
    try:
        switcher.prepare(32, 32)
        for name in ("other", "one", "absent", "other", "one"):
            switcher.request_model(name)
            wait_for(lambda: (switcher(frame), switcher.active_model == switcher.requested_model)[1], f"a switch to {name}")
        assert switcher.active_model == "one"
    finally:
        switcher.close()


def test_ctrl_c_during_a_message_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt):
        suppress_errors(raising(KeyboardInterrupt()))("line")


class Broken(io.StringIO):
    """A stream that fails, as stderr does."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error

    flush: Any = lambda self: self.write("")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), BrokenPipeError(), OSError(errno.EIO, "terminal closed")])
def test_a_line_that_cannot_be_printed_is_dropped_and_the_next_is_tried(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.fstat(1)
    monkeypatch.setattr(sys, "stderr", Broken(error))
    print_line("lost")
    assert not console.quiet and os.path.samestat(before, os.fstat(1)), "stdout is for results"
    good = io.StringIO()
    monkeypatch.setattr(sys, "stderr", good)
    print_line("there is room again")
    assert good.getvalue() == "there is room again\n"


@pytest.mark.parametrize("stderr", [None, io.StringIO()], ids=["none", "closed"])
def test_a_process_without_stderr_prints_nothing(stderr: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if stderr is not None:
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    print_line("lost")
    assert not console.file.isatty()
