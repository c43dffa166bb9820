"""onnxruntime-web for the tests that need a browser: `make test` downloads it once, and they skip where it is missing.

`python -m tests.web_runtime` downloads it. It prints one line and ends with 0, also without a network.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclecast.errors import CyclecastError
from cyclecast.web_app.runtime import VERSION, find_runtime, get_runtime

FOUND = find_runtime()  # when tests are collected: later, each test has a cache of its own


def web_runtime() -> Path:
    """Returns the folder that `web-app --runtime` accepts; skips the test if it was not downloaded."""
    if FOUND is None:
        pytest.skip("onnxruntime-web is not here: python -m tests.web_runtime downloads it")
    return FOUND


if __name__ == "__main__":
    try:
        get_runtime(on_message=print)
        print(f"onnxruntime-web {VERSION}: ready")
    except CyclecastError as error:
        print(f"tests in browsers will be skipped: {error}")
