"""Writes the folder of a site as a whole, and replaces only folders that are sites of ours."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.files import write_error
from cyclecast.own_files import NotOwnError, refuse_links_in

LIST = "files.json"  # its `files` lists the others
UNLISTED = {LIST, "sw.js"}
OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # which file managers add to folders that are looked at


def check_folder(output: Path, overwrite: bool) -> None:
    """Raises OutputError unless the folder can be created, is empty, or is a site that may be replaced.

    Never replaced is a folder that holds a link, or a file that is not listed in its `files.json`.
    """
    try:
        if output.is_symlink():
            raise OutputError(f"{output}: is a symbolic link; name the folder that it leads to")
        if not os.path.lexists(output):
            return
        if not output.is_dir():
            raise OutputError(f"{output}: is a file; expected the name of a folder")
        if output.samefile(Path.cwd()):
            raise OutputError(f"{output}: is the current folder; name a folder in it, which will be created")
        if not any(output.iterdir()):
            return
        if not overwrite:
            raise OutputExistsError(f"{output}: exists already; --overwrite replaces it, if it is a site that web-app wrote")
        listed = _listed_files(output)
        if listed is None:
            raise OutputExistsError(f"{output}: is not a site that web-app wrote, so it is not replaced; name another folder")
        refuse_links_in(output)
        found = {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}
    except OutputError:  # some are OSErrors, too
        raise
    except NotOwnError as error:
        raise OutputError(f"{output}: {error.strerror}") from error
    except OSError as error:
        raise write_error(error, output) from error
    if other := sorted(path for path in found - listed - UNLISTED if Path(path).name not in OF_SYSTEMS):
        names = ", ".join(other[:3]) + (", …" if len(other) > 3 else "")
        raise OutputExistsError(f"{output}: holds files that web-app did not write ({names}); move them, or name another folder")


def write_folder(output: Path, files: Mapping[str, bytes], overwrite: bool) -> None:
    """Writes path -> content below a new folder, which is renamed to `output` when it is complete.

    Raises OutputError as `check_folder` does, and if the folder cannot be written. An existing folder then stays unchanged.
    """
    check_folder(output, overwrite)
    token = secrets.token_hex(4)
    new, old = (output.with_name(f".{output.name[:40]}.{token}.{word}") for word in ("new", "old"))
    try:
        new.mkdir(parents=True)
        for path, content in files.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(content)
        check_folder(output, overwrite)  # again: writing takes a while
        if not output.is_dir():
            os.replace(new, output)
            return
        os.replace(output, old)
        try:
            os.replace(new, output)
        except BaseException:
            os.replace(old, output)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OutputError:  # some are OSErrors, too
        raise
    except OSError as error:
        raise write_error(error, output) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _listed_files(folder: Path) -> set[str] | None:
    """Returns the paths in the folder's `files.json`; None if it is not ours."""
    try:
        listed = json.loads((folder / LIST).read_bytes())
        return {str(file["path"]) for file in listed["files"]} if "cyclecast" in listed else None
    except (FileNotFoundError, ValueError, RecursionError, TypeError, KeyError):
        return None
