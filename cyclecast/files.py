"""Writes files whole or not at all, digests files, recognizes hidden ones. Standard library only."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclecast.errors import (
    CyclecastError,
    InputError,
    InputPermissionError,
    MissingInputError,
    OutputError,
    OutputExistsError,
    OutputPermissionError,
)

# What file servers, cameras and systems add to folders; all in lower case. Names that begin with a dot are hidden anyway.
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found", "__macosx"}
)
SAMPLE = 1 << 20  # bytes at each end of a file that go into its digest


def check_source(source: Path) -> None:
    """Raises MissingInputError, InputPermissionError or InputError unless `source` is a file that this user may read.

    Pipes and devices are refused: sources are read several times, and opening a pipe may wait forever.
    """
    try:
        mode = os.stat(source).st_mode
        if stat.S_ISDIR(mode):
            os.scandir(source).close()
            raise InputError(f"{source}: is a folder")
        if not stat.S_ISREG(mode):
            kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
            raise InputError(f"{source}: is a {kind}; expected a file, as it is read several times. Save it to a file first")
        open(source, "rb").close()
    except OSError as error:
        raise read_error(error, source) from error


def check_output(output: Path, overwrite: bool = False) -> None:
    """Raises OutputError if a file of this name cannot be created or replaced; OutputExistsError if it may not be overwritten."""
    try:
        os.lstat(output)
    except FileNotFoundError:
        return
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise write_error(error, output) from error
    if os.path.isdir(output):
        raise OutputError(f"{output}: is a folder")
    if not overwrite:
        raise OutputExistsError(f"{output}: exists already; --overwrite replaces it")
    if os.path.exists(output) and not os.path.isfile(output):
        raise OutputError(f"{output}: is a pipe, a socket or a device; expected a file")


def write_error(error: Exception, output: object | None = None) -> OutputError:
    """Returns the error to raise when writing failed with `error`: "out.mp4: cannot be written (No space left on device)".

    output: left out where the caller adds the name, as `atomic_write` does. Without permission it is an OutputPermissionError.
    """
    error_type = OutputPermissionError if isinstance(error, PermissionError) else OutputError
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return error_type(f"cannot be written ({reason})" if output is None else f"{output}: cannot be written ({reason})")


def read_error(error: OSError, path: object) -> InputError:
    """Returns the MissingInputError, InputPermissionError or InputError to raise when reading `path` failed with `error`."""
    if isinstance(error, FileNotFoundError):
        return MissingInputError(f"{path}: no such file or folder")
    error_type = InputPermissionError if isinstance(error, PermissionError) else InputError
    return error_type(f"{path}: cannot be read ({error.strerror or error})")


def rename_new(source: Path, output: Path) -> None:
    """Renames `source` to `output`. Raises FileExistsError, and keeps it, if that name exists by now."""
    output.open("xb").close()  # reserves the name
    try:
        os.replace(source, output)
    except BaseException:
        output.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_write(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new, empty file beside `output` to write to. It is renamed to `output` at the end and removed on any error.

    Its name is unique and has the suffix of `output`. Missing parent folders are created. Ctrl-C counts as an error, too.
    Raises OutputError if `output` is a folder, exists (unless `overwrite`) or cannot be written. An OutputError that the
    caller raises gets the name of `output` in front; in the other errors of cyclecast, that name replaces the new file's.
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
        raise type(error)(f"{output}: {error}") from error
    except CyclecastError as error:
        partial.unlink(missing_ok=True)
        if partial.name not in str(error):
            raise
        raise type(error)(str(error).replace(str(partial), str(output)).replace(partial.name, output.name)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def is_hidden(path: Path) -> bool:
    """Returns whether a part of a relative path begins with a dot, or is one of `SYSTEM_FOLDERS`.

    For example macOS's `._a.mov`, Android's `.trashed-1-a.jpg`, a file that is being written, the folder of a job.
    """
    return any((part.startswith(".") and part != "..") or part.lower() in SYSTEM_FOLDERS for part in path.parts)


def digest_of_ends(path: Path) -> str:
    """Returns a file's size and a digest of its first and last megabyte: equal for every copy, and fast for the longest video.

    Raises OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(file.read(SAMPLE))
        file.seek(max(0, size - SAMPLE))
        digest.update(file.read(SAMPLE))
    return f"{size} {digest.hexdigest()}"
