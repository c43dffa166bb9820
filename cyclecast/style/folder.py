"""The folder of a style in progress, with a lock against a second run, and the three files that a run writes beside it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cyclecast.errors import ConfigError, OutputError, OutputExistsError
from cyclecast.files import check_output, write_error
from cyclecast.own_files import create_own_folder, own_opener, refuse_links_in, remove_name
from cyclecast.style.plan import Plan

LOCK_NAME = "lock"
# What a run writes, beside the lock, and what atomic_write leaves behind if the run is killed. The plan goes last.
OWN_NAMES = re.compile(r"frames|pairs|styles|run|measuring|teacher\.onnx|\.(plan|teacher)\.[0-9a-f]{8}\.\w+|plan\.json")


class StyleFolder:
    """The folder OUTPUT.style: the plan, what a run learns from, and the run itself. output: the ONNX file to write."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.card, self.sheet = output.with_suffix(".md"), output.with_suffix(".jpg")
        self.outputs = (self.output, self.card, self.sheet)
        self.root = output.with_suffix(".style")
        self.frames, self.styles, self.pairs = (self.root / name for name in ("frames", "styles", "pairs"))
        self.run = self.root / "run"
        self.teacher = self.root / "teacher.onnx"  # the teacher as a frame model, if it had to be converted
        self.plan_file = self.root / "plan.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Creates the folder and locks it.

        Raises OutputError if another run has locked it, if it cannot be written, if it is a link or holds one, or if it holds
        files but no plan, which means that another program wrote it.
        """
        try:
            create_own_folder(self.root)
            if not self.plan_file.exists() and self._entries():
                raise OutputExistsError(
                    f"{self.root}: a folder without this command's {self.plan_file.name}; rename it, or choose another --output"
                )
            refuse_links_in(self.root)
            open(self.root / LOCK_NAME, "ab", opener=own_opener).close()
            lock = FileLock(self.root / LOCK_NAME, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise OutputError(f"{self.root}: another run is writing it; wait for it, or choose another --output") from error
        except OutputExistsError:
            raise
        except OSError as error:
            raise write_error(error, self.root) from error
        try:
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Deletes what a run writes, but the lock. The plan goes last: a folder without one is treated as another program's."""
        own = [path for path in self._entries() if OWN_NAMES.fullmatch(path.name)]
        for path in sorted(own, key=lambda path: path == self.plan_file):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                remove_name(path)

    def remove(self) -> None:
        """Deletes the folder, while it is locked, unless it holds files of another program."""
        self.clear()
        with suppress(OSError):  # on Windows the lock stays
            if not self._entries():
                (self.root / LOCK_NAME).unlink(missing_ok=True)
                self.root.rmdir()

    def check_outputs(self, plan: Plan, overwrite: bool) -> None:
        """Raises OutputError for an output that a run with this plan may not replace: another program's, or a finished one."""
        if plan.is_finished and self.output.exists() and not overwrite:
            raise OutputExistsError(f"{self.output}: finished already; --overwrite writes it again, without training again")
        for path in () if plan.owns_outputs else self.outputs:
            check_output(path, overwrite)

    def check_inputs(self, inputs: Iterable[Path]) -> None:
        """Raises OutputError if an output is one of the inputs: even --overwrite must not replace those."""
        resolved = {path.resolve() for path in inputs}
        for path in self.outputs:
            if path.resolve() in resolved:
                what = {self.card: "card", self.sheet: "sheet"}.get(path, "model")
                raise OutputError(f"{path}: an input, which the {what} would replace; choose another --output")

    def check_sources(self, sources: Iterable[Path]) -> None:
        """Raises ConfigError if one of the sources lies in the folder."""
        for source in sources:
            if source.resolve().is_relative_to(self.root.resolve()):
                raise ConfigError(f"{source}: lies in {self.root}, which this command writes; name the original files")

    def is_own(self, path: Path, with_outputs: bool) -> bool:
        """Returns whether a file lies in the folder or, with `with_outputs`, is one of the outputs."""
        resolved = path.resolve()
        is_output = with_outputs and resolved in {each.resolve() for each in self.outputs}
        return is_output or resolved.is_relative_to(self.root.resolve())

    def _entries(self) -> list[Path]:
        return [self.root / name for name in os.listdir(self.root) if name != LOCK_NAME]
