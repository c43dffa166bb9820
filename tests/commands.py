"""Runs `cyclecast` commands for tests: in this process, which takes milliseconds, or as the installed program."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cyclecast.cli import main

PROGRAM = Path(sys.executable).parent / "cyclecast"


def run_program(*args: object) -> subprocess.CompletedProcess[str]:
    """Runs the installed program in a process of its own."""
    return subprocess.run([str(PROGRAM), *map(str, args)], capture_output=True, text=True, timeout=300)


def run_command(*args: object) -> subprocess.CompletedProcess[str]:
    """Runs the command through `main` in this process. Anything but a SystemExit escapes, as a bug would."""
    words = ["cyclecast", *map(str, args)]
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with patch.object(sys, "argv", words), redirect_stdout(stdout), redirect_stderr(stderr):
            main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue())


def json_of(*args: object) -> dict[str, Any]:
    """Returns the object that a command prints with `--json`; it prints nothing else to stdout."""
    done = run_command(*args, "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value
