"""The losses of a run: one line of JSON for every few steps, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclecast.errors import ModelError
from cyclecast.files import write_error
from cyclecast.own_files import create_own_folder, own_opener
from cyclecast.training.config import current_name

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

NAME = "losses.jsonl"  # in a run's folder


class LossLog:
    """Means over every `every` steps. Sums of steps that fill no line yet go into the checkpoint."""

    def __init__(self, folder: Path, every: int, tensorboard: bool) -> None:
        self.path = folder / NAME
        self.every = every
        self._lines: list[str] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._writer: SummaryWriter | None = None
        self._has_tensorboard = tensorboard

    def open(self, step: int) -> None:
        """Writes the file anew from the lines known here: a new run starts empty, a resumed one ends at its checkpoint.

        Raises OutputError if it cannot be written.
        """
        try:
            with open(self.path, "w", encoding="utf-8", opener=own_opener) as file:
                file.writelines(self._lines)
        except OSError as error:
            raise write_error(error, self.path) from error
        if self._has_tensorboard:
            from torch.utils.tensorboard.writer import SummaryWriter

            try:
                create_own_folder(self.path.parent / "tensorboard")
                self._writer = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=step + 1)
            except OSError as error:
                raise write_error(error, self.path.parent / "tensorboard") from error

    def close(self) -> None:
        """Flushes and closes TensorBoard's writer."""
        if self._writer is not None:
            self._writer.close()

    def add(self, step: int, losses: dict[str, float]) -> None:
        """Adds one step's losses, and writes a line after every `every` steps. Raises OutputError if it cannot be written."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % self.every:
            return
        means = {name: round(total / self._count, 5) for name, total in self._sums.items()}
        self._lines.append(json.dumps({"step": step, **means}) + "\n")
        self._sums, self._count = {}, 0
        try:
            with open(self.path, "a", encoding="utf-8", opener=own_opener) as file:
                file.write(self._lines[-1])
        except OSError as error:
            raise write_error(error, self.path) from error
        if self._writer is not None:
            for name, mean in means.items():
                self._writer.add_scalar(f"loss/{name}", mean, step)
            self._writer.flush()  # so that a run that is killed keeps its points

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Returns loss -> (steps, means) of all lines."""
        curves: dict[str, tuple[list[int], list[float]]] = {}
        for line in map(json.loads, self._lines):
            for name, value in line.items():
                if name != "step":
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(line["step"])
                    values.append(value)
        return curves

    def state_dict(self) -> dict[str, Any]:
        """Returns lines and sums, so that neither an incomplete last line nor a stop between two lines loses anything."""
        return {"lines": list(self._lines), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, with the current names of losses.

        Raises ModelError if the lines are no log of losses.
        """
        try:
            self._lines = [_with_current_names(line) for line in state["lines"]]
            self._sums = {current_name(name): float(total) for name, total in state["sums"].items()}
            self._count = int(state["count"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self.path.parent}: the checkpoint's log of losses is damaged ({error})") from error


def _with_current_names(line: str) -> str:
    """Returns the line with the current names of losses. Raises ValueError unless it is a JSON object with `step` and numbers."""
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        raise ValueError(f"expected a JSON object with a step, got {line.strip()[:80]!r}")
    if not all(isinstance(value, int | float) for value in values.values()):
        raise ValueError(f"expected numbers, got {line.strip()[:80]!r}")
    current = {current_name(name): value for name, value in values.items()}
    return line if current == values else json.dumps(current) + "\n"
