"""Files and folders that cyclecast keeps under predictable names, for example the folder of a job beside its output.

The folder around them may come from another person: an unpacked archive can hold links under these names, which lead to the
user's own files. So they are opened without following a link, and only what cyclecast writes is deleted. Standard library only.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from cyclecast.errors import OutputError

# Not on Windows. Without O_NONBLOCK, opening a named pipe would wait for its other end.
SAFE_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class NotOwnError(OSError):
    """A name that cyclecast uses is taken by a link, or by a file of another type or another user."""


def create_own_folder(folder: Path, mode: int = 0o777) -> None:
    """Creates a folder and its parents, or uses an existing one. Raises NotOwnError if it is a link or belongs to another user.

    mode: permissions of a new folder, before the umask.
    """
    folder.mkdir(mode, parents=True, exist_ok=True)
    if folder.is_symlink():
        raise NotOwnError(errno.ELOOP, f"{folder} is a symbolic link; remove it")
    _check_owner(folder, os.lstat(folder))


def own_opener(name: str, flags: int) -> int:
    """Opens or creates a regular file, without following a link. To be passed to `open` as its `opener`.

    Raises NotOwnError for everything else, for a file with a second name (a hard link), and for a file of another user.
    """
    path = Path(name)
    if path.is_symlink():
        raise NotOwnError(errno.ELOOP, f"{path} is a symbolic link; remove it")
    descriptor = os.open(path, (flags & ~os.O_TRUNC) | SAFE_FLAGS, 0o666)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotOwnError(errno.EINVAL, f"{path} is not a regular file; remove it")
        if found.st_nlink > 1:
            raise NotOwnError(errno.EMLINK, f"{path} is a hard link; remove it")
        _check_owner(path, found)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_own_folder(path: Path) -> bool:
    """Returns whether this is a folder of this user, not a link. In a folder of temporary files, other users may write, too."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())


def is_own_file(path: Path) -> bool:
    """Returns whether this is a regular file with one name, not a link."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def create_own_file(path: Path) -> None:
    """Replaces the file or link of this name by an empty file. Raises OSError if it is a folder that is not empty."""
    remove_name(path)
    path.open("xb").close()


def remove_own_files(folder: Path, names: re.Pattern[str]) -> None:
    """Deletes the files of a folder with these names, in alphabetical order. Links are removed, not followed."""
    for name in sorted(os.listdir(folder)):
        if names.fullmatch(name):
            remove_name(folder / name)


def remove_name(path: Path) -> None:
    """Removes a file, a link or an empty folder, if it exists. Raises OSError for a folder that is not empty."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def leads_outside(name: str) -> bool:
    """Returns whether a path that was read from a file is absolute or leads out of its folder."""
    path = Path(name)
    return path.is_absolute() or bool(path.drive) or ".." in path.parts


def refuse_links_in(folder: Path) -> None:
    """Raises NotOwnError if the folder contains a link, however deep: cyclecast creates none there."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(parent, name)):
                raise NotOwnError(errno.ELOOP, f"{os.path.join(parent, name)} is a symbolic link; remove it")


def refuse_links_outside(folder: Path, path: Path) -> None:
    """Raises OutputError if a folder between `folder` and `path` is a link that leads out of `folder`."""
    if not path.is_relative_to(folder):
        return
    root = os.path.realpath(folder)
    for parent in list(path.relative_to(folder).parents)[:-1]:
        between = folder / parent
        if between.is_symlink() and not Path(os.path.realpath(between)).is_relative_to(root):
            raise OutputError(
                f"{path}: {between} is a symbolic link that leads out of {folder}; remove it, or name its target as the output"
            )


def _check_owner(path: Path, found: os.stat_result) -> None:
    """Raises NotOwnError if the file belongs neither to this user nor to the owner of its folder, who could replace it anyway."""
    if hasattr(os, "geteuid") and found.st_uid not in (os.geteuid(), os.stat(path.parent).st_uid):
        raise NotOwnError(errno.EPERM, f"{path} belongs to another user; remove it")
