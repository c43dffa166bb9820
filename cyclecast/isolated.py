"""Work in a process of its own, within a time: for what may hang, crash or talk to the terminal. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cyclecast.errors import CyclecastError

TIMED_OUT = "no answer within"  # begins the failure of what took too long


@dataclass(frozen=True)
class ProcessResult:
    """A program that was run."""

    code: int | None
    """Its exit code, below 0 for a signal; None: it did not end in time."""
    out: str
    said: str
    """What it wrote to stderr."""


@dataclass(frozen=True)
class CallResult:
    """What came of a call elsewhere: a value, or why there is none."""

    value: Any
    failure: str | None
    """What it raised, how it died, or that it took too long; None where there is a value."""
    said: str
    """What it wrote to stdout and stderr on the way."""


def call(function: Callable[..., Any], *arguments: Any, seconds: float) -> CallResult:
    """function(*arguments) in a process of its own, which is killed after `seconds`; nothing of it reaches the terminal.

    function: of a module's top level. Its arguments and its value are what JSON can hold. Whatever it raises is in `failure`.
    """
    request = json.dumps([function.__module__, function.__qualname__, arguments])
    code = f"import sys; sys.path[:] = {sys.path!r}; from cyclecast.isolated import serve; serve()"
    ended = run([sys.executable, "-c", code, request], seconds)
    try:
        value, failure = json.loads(ended.out)
    except ValueError:
        value, failure = None, _death(ended, seconds)
    return CallResult(value, failure, ended.said)


def start(function: Callable[[], None]) -> subprocess.Popen[str]:
    """function() in a process of its own that goes on beside this one, its standard streams in our hands as text.

    function: of a module's top level. It needs no guard in the program's main module, as `multiprocessing` would.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from {function.__module__} import {function.__name__}; {function.__name__}()"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")


def serve() -> None:
    """The other end of `call`: reads the request from the command line, answers on what was stdout, and leaves at once."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    module, name, arguments = json.loads(sys.argv[1])
    try:
        answer = [getattr(import_module(module), name)(*arguments), None]
    except (CyclecastError, ImportError, OSError) as error:
        answer = [None, str(error) or type(error).__name__]
    except Exception as error:
        answer = [None, f"{type(error).__name__}: {error}"]
    with open(answers, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # drivers may hang or crash when they are taken down


def run(command: Sequence[str], seconds: float) -> ProcessResult:
    """Runs a program and waits for it `seconds` at most, even if it cannot be killed. OSError if it cannot be started."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = said = b""
    try:
        out, said = process.communicate(timeout=seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits inside the kernel outlives that
                out, said = process.communicate(timeout=1)
    return ProcessResult(code, out.decode("utf-8", "replace"), said.decode("utf-8", "replace"))


def last_line(said: str) -> str:
    """The last line that says something, without colors; empty if there is none."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()]
    return next((line for line in reversed(lines) if any(c.isalnum() for c in line)), "")


def _death(ended: ProcessResult, seconds: float) -> str:
    if ended.code is None:
        return f"{TIMED_OUT} {seconds:g} s"
    how = f"crashed ({signal.Signals(-ended.code).name})" if ended.code < 0 else f"ended with exit code {ended.code}"
    words = last_line(ended.said)
    return f"{how}: {words}" if words else how
