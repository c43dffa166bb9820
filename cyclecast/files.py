"""Files that appear whole or not at all, and lists that grow line by line. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cyclecast.errors import OutputError

SAMPLE = 1 << 20  # bytes at either end of a file, by which it is known again


def check_output(output: Path, overwrite: bool = False) -> None:
    """Raises OutputError if `output` is a folder, or if it exists and `overwrite` is False."""
    try:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder")
    except OSError as error:
        raise write_error(error, output) from error
    if os.path.lexists(output) and not overwrite:
        raise OutputError(f"{output}: exists already; --overwrite replaces it")


def write_error(error: Exception, output: Path | None = None) -> OutputError:
    """The one line for a file that the system does not let us write: "out.mp4: cannot be written (No space left on device)".

    output: leave it out where the caller adds the name, as `atomic_write` does.
    """
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return OutputError(f"{output}: cannot be written ({reason})" if output else f"cannot be written ({reason})")


@contextmanager
def atomic_write(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """A new, empty file beside `output` to write to: renamed to it at the end, removed on any error, Ctrl-C included.

    Its name has the suffix of `output` and is nobody else's. OutputError if `output` exists (unless `overwrite`), is a
    folder, or cannot be written; the folders above it are made. An OutputError of the caller's is given its name.
    """
    partial = output.with_name(f".{output.stem[:40]}.{secrets.token_hex(4)}{output.suffix}")
    check_output(output, overwrite)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.open("xb").close()
    except OSError as error:
        raise write_error(error, output) from error
    try:
        yield partial
        try:
            os.replace(partial, output)
        except OSError as error:
            raise write_error(error) from error
    except OutputError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{output}: {error}") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one in each line; none if it is not there. A last line that was cut short is taken off."""
    lines: list[dict[str, Any]] = []
    end = 0
    with suppress(FileNotFoundError), open(path, "rb+") as file:
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    raise ValueError
                lines.append(json.loads(line))
            except ValueError:
                file.truncate(end)
                break
            end += len(line)
    return lines


def digest_of_ends(path: Path) -> str:
    """The size of a file and a digest of both its ends: the same of every copy, and quick for the longest film.

    OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(file.read(SAMPLE))
        file.seek(max(0, size - SAMPLE))
        digest.update(file.read(SAMPLE))
    return f"{size} {digest.hexdigest()}"
