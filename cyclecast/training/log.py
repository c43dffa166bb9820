"""The numbers of a run: one line of JSON for every so many steps, and the same for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclecast.files import write_error

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

NAME = "losses.jsonl"  # in a run's folder


class LossLog:
    """Means over every `every` steps; sums that are not full yet go into the checkpoint."""

    def __init__(self, folder: Path, every: int, tensorboard: bool) -> None:
        self.path = folder / NAME
        self.every = every
        self._lines: list[str] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._board: SummaryWriter | None = None
        self._wants_board = tensorboard

    def open(self, step: int) -> None:
        """Brings the file to what is known here: empty for a new run, no lines after the checkpoint for a resumed one."""
        try:
            self.path.write_text("".join(self._lines), "utf-8")
        except OSError as error:
            raise write_error(error, self.path) from error
        if self._wants_board:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=step + 1)

    def close(self) -> None:
        """Writes out what TensorBoard's writer holds back."""
        if self._board is not None:
            self._board.close()

    def add(self, step: int, losses: dict[str, float]) -> None:
        """Counts one step in, and writes a line when `every` of them are full."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % self.every:
            return
        means = {name: round(total / self._count, 5) for name, total in self._sums.items()}
        self._lines.append(json.dumps({"step": step, **means}) + "\n")
        self._sums, self._count = {}, 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._lines[-1])
        except OSError as error:
            raise write_error(error, self.path) from error
        if self._board is not None:
            for name, mean in means.items():
                self._board.add_scalar(f"loss/{name}", mean, step)
            self._board.flush()  # a run that is stopped keeps what it has shown

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Name -> (steps, means), as far as they are logged."""
        out: dict[str, tuple[list[int], list[float]]] = {}
        for line in map(json.loads, self._lines):
            for name, value in line.items():
                if name != "step":
                    steps, values = out.setdefault(name, ([], []))
                    steps.append(line["step"])
                    values.append(value)
        return out

    def state_dict(self) -> dict[str, Any]:
        """Lines and sums, so that neither a torn last line nor a stop between two lines loses anything."""
        return {"lines": list(self._lines), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._lines, self._sums, self._count = list(state["lines"]), dict(state["sums"]), int(state["count"])
