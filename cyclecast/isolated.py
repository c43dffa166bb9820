"""Runs functions and programs in a separate process with a time limit: for whatever may hang, crash or write to the terminal.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cyclecast.debug import enable_debug_log, environment_for_child, is_debug_requested
from cyclecast.errors import CyclecastError

TIMED_OUT = "no answer within"  # the failure of a process that took too long starts with these words

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessResult:
    """A finished program."""

    code: int | None
    """Its exit code, negative for a signal; None if it did not end in time."""
    stdout: str
    stderr: str


@dataclass(frozen=True)
class CallResult:
    """The result of a function that ran in a separate process: a value or a failure."""

    value: Any
    failure: str | None
    """The error it raised, how the process died, or that it took too long; None if there is a value."""
    output: str
    """Everything the function wrote to stdout and stderr."""


def call(function: Callable[..., Any], *arguments: Any, seconds: float) -> CallResult:
    """Runs function(*arguments) in a separate process, which is killed after `seconds`. Nothing it writes reaches the terminal.

    function: defined at the top level of a module. Its arguments and its value must fit into JSON. Any error it raises is
    returned as `failure`, and its traceback goes to the debug log.
    """
    request = json.dumps([function.__module__, function.__qualname__, arguments])
    code = f"import sys; sys.path[:] = {sys.path!r}; from cyclecast.isolated import answer_call; answer_call()"
    process = run([sys.executable, "-c", code, request], seconds)
    try:
        value, failure, trace = json.loads(process.stdout)
    except ValueError:
        value, failure, trace = None, _describe_death(process, seconds), process.stderr
    if failure is not None:
        log.debug("%s.%s failed in a separate process: %s\n%s", function.__module__, function.__name__, failure, trace)
    return CallResult(value, failure, process.stderr)


def answer_call() -> None:
    """Answers `call` in the child: reads the request from the command line, writes the answer to stdout and exits at once."""
    answers = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not disturb the answer
    module, name, arguments = json.loads(sys.argv[1])
    try:
        answer = [getattr(import_module(module), name)(*arguments), None, None]
    except (CyclecastError, ImportError, OSError) as error:
        answer = [None, str(error) or type(error).__name__, traceback.format_exc()]
    except Exception as error:
        answer = [None, f"{type(error).__name__}: {error}", traceback.format_exc()]
    with open(answers, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # some drivers hang or crash during a regular shutdown


def start(function: Callable[[], None]) -> subprocess.Popen[str]:
    """Starts function() in a separate process that runs beside this one; its standard streams are text pipes.

    function: defined at the top level of a module. Unlike `multiprocessing`, this needs no guard in the program's main module.
    If this process prints its debug log, the child writes its own to its stderr.
    """
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from cyclecast.isolated import run_child; "
        f"from {function.__module__} import {function.__name__}; run_child({function.__name__})"
    )
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        encoding="utf-8",
        env=environment_for_child(),
    )


def run_child(function: Callable[[], None]) -> None:
    """Runs the function of `start` in the child, with a debug log if the parent has one."""
    if is_debug_requested():
        enable_debug_log()
    function()


def run(command: Sequence[str], seconds: float) -> ProcessResult:
    """Runs a program and waits at most `seconds`, even if it cannot be killed. Raises OSError if it cannot be started."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdout = stderr = b""
    try:
        stdout, stderr = process.communicate(timeout=seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a process that waits inside the kernel outlives SIGKILL
                stdout, stderr = process.communicate(timeout=1)
    return ProcessResult(code, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))


def last_line(output: str) -> str:
    """Returns the last line that contains a letter or a digit, without terminal colors; empty if there is none."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()]
    return next((line for line in reversed(lines) if any(c.isalnum() for c in line)), "")


def _describe_death(process: ProcessResult, seconds: float) -> str:
    if process.code is None:
        return f"{TIMED_OUT} {seconds:g} s"
    how = f"crashed ({signal.Signals(-process.code).name})" if process.code < 0 else f"ended with exit code {process.code}"
    reason = last_line(process.stderr)
    return f"{how}: {reason}" if reason else how
