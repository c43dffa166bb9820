"""`make_style`: from a look and footage to a frame model, in stages that a second call resumes."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cyclecast
from cyclecast.errors import ConfigError, Interrupted
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.files import check_output
from cyclecast.style.crops import PairFolders, write_pairs
from cyclecast.style.footage import extract_frames, list_footage, shrink_to
from cyclecast.style.looks import Look, Pairs, StyleImages, Teacher, read_look
from cyclecast.style.plan import (
    FINISHING_SECONDS,
    MEASURED_STEPS,
    MINUTES,
    OVERHEAD,
    Plan,
    load_plan,
    measure_step_seconds,
    pairs_in,
    recipe_of,
    require_time,
    steps_in,
    training_config,
)
from cyclecast.style.result import Figures, measure, write_card, write_sheet
from cyclecast.style.teacher import PairMaker, TeacherView, open_teacher
from cyclecast.training import checkpoint
from cyclecast.training.data.images import spaced_indices
from cyclecast.training.loop import train
from cyclecast.video.files.images import read_image, write_image

STYLE_SIDE = 1024  # pixels of the shorter side of style images that are kept
PAIRS_OF_STEPS = 600  # a teacher's pairs where --steps is given

OnProgress = Callable[..., None]  # (stage, done, total)


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """How a look is learned."""

    minutes: float | None = None
    """Time for everything. None: 20, or as long as `steps` take."""
    steps: int | None = None
    """Training steps, in place of `minutes`."""
    preset: str = "base"
    """Size of the generator: nano, small or base."""
    strength: float = 1.0
    """Share of the style in the output of the finished model, from 0 to 1; the rest is the source."""
    seed: int = 0
    overwrite: bool = False
    """Replaces an existing output, and starts anew if the folder holds another style."""
    view: TeacherView = TeacherView()
    color: str | None = None
    """Color order of a foreign ONNX model, bgr or rgb. None: detected."""


@dataclass(frozen=True)
class StyleReport:
    """What `cyclecast style --json` prints."""

    output: str
    card: str
    sheet: str
    page: str
    recipe: str
    frames: int
    pairs: int
    steps: int
    seconds: dict[str, float]
    figures: dict[str, float] = field(default_factory=dict)


def make_style(
    looks: Sequence[str | Path],
    output: Path,
    *,
    footage: Sequence[Path] = (),
    pairs: tuple[Path, Path] | None = None,
    options: StyleOptions | None = None,
    on_message: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> StyleReport:
    """Learns a look and writes it to `output` as a frame model, with a card (.md) and a sheet (.jpg) beside it.

    looks: images of a style, folders of them, or one generator. footage: videos, images or folders; what will be styled, or
    similar. pairs: two folders with images of the same names, in place of looks. Everything in progress is in the folder
    OUTPUT.style; the same call resumes there after any interruption, with the same result.

    Raises InputError, ConfigError, OutputError, ModelError, what training raises, and Interrupted after Ctrl-C (saved).
    """
    work = _StyleRun(looks, output, footage, pairs, options or StyleOptions(), on_message or _ignore, on_progress or _ignore)
    return work.run()


def _ignore(*_: object) -> None:
    pass


class _StyleRun:
    """One call of `make_style`: its folder, its plan, and a method for each stage."""

    def __init__(
        self,
        looks: Sequence[str | Path],
        output: Path,
        footage: Sequence[Path],
        pairs: tuple[Path, Path] | None,
        options: StyleOptions,
        on_message: Callable[[str], None],
        on_progress: OnProgress,
    ) -> None:
        require_time(options.minutes, options.steps)
        if output.suffix != ".onnx":
            raise ConfigError(f"{output}: expected the name of an ONNX file, such as {output.stem}.onnx")
        for path in (output, output.with_suffix(".md"), output.with_suffix(".jpg")):
            check_output(path, options.overwrite)
        self.look: Look = read_look(looks, pairs)
        if not footage and not isinstance(self.look, Pairs):
            raise ConfigError("expected --footage: videos or images like those that you want to style")
        self.footage_files = list_footage(footage)
        self.footage, self.output, self.options = list(footage), output, options
        self.on_message, self.on_progress = on_message, on_progress
        self.folder = output.with_suffix(".style")
        self.frames, self.styles = self.folder / "frames", self.folder / "styles"
        self.run_folder = self.folder / "run"
        self.plan_file = self.folder / "plan.json"
        self.plan = self._open_plan(looks, pairs)

    def _open_plan(self, looks: Sequence[str | Path], pairs: tuple[Path, Path] | None) -> Plan:
        options = self.options
        request: dict[str, Any] = {
            "look": [str(look) for look in looks] or [str(path) for path in pairs or ()],
            "footage": [str(path) for path in self.footage],
            "minutes": options.minutes,
            "steps": options.steps,
            "preset": options.preset,
            "seed": options.seed,
            "teacher": dataclasses.asdict(options.view) | {"color": options.color},
        }
        try:
            return load_plan(self.plan_file, request)
        except cyclecast.OutputExistsError:
            if not options.overwrite:
                raise
        shutil.rmtree(self.folder)
        return Plan(request)

    def run(self) -> StyleReport:
        """All stages in order; those that are complete take no time."""
        self.on_message(f"learning {self.look}, with the recipe {recipe_of(self.look)}, preset {self.options.preset}")
        if self.plan.steps:
            self.on_message(f"resuming {self.folder}")
        with self._stage("footage"):
            self._extract_frames()
        with self._stage("data"):
            self._prepare_data()
        with self._stage("training"):
            self._train()
        with self._stage("export"):
            figures = self._export()
        shown = {name: value for name, value in dataclasses.asdict(figures).items() if value is not None}
        return StyleReport(
            output=str(self.output),
            card=str(self.output.with_suffix(".md")),
            sheet=str(self.output.with_suffix(".jpg")),
            page=str(self.run_folder / "index.html"),
            recipe=recipe_of(self.look),
            frames=self.plan.frames,
            pairs=self.plan.pairs,
            steps=self.plan.steps,
            seconds={name: round(seconds, 1) for name, seconds in self.plan.seconds.items()},
            figures=shown,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Adds the time of a stage to the plan, also when it is interrupted."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.plan.seconds[name] = self.plan.seconds.get(name, 0.0) + time.perf_counter() - start
            if self.folder.is_dir():
                self.plan.save(self.plan_file)

    @property
    def pairs(self) -> PairFolders:
        """The pairs that are planned."""
        return PairFolders(self.folder / "pairs", self.plan.pairs)

    def _seconds_left(self) -> float:
        """The time that training may take."""
        minutes = MINUTES if self.options.minutes is None else self.options.minutes
        return 60 * minutes - sum(self.plan.seconds.values()) - FINISHING_SECONDS

    def _extract_frames(self) -> None:
        if not self.footage or self.plan.frames:
            return
        shutil.rmtree(self.frames, ignore_errors=True)
        self.plan.frames = extract_frames(
            self.footage, self.frames, lambda done, total: self.on_progress("reading footage", done, total), self.on_message
        )
        files = len(self.footage_files)
        self.on_message(f"footage: {self.plan.frames} frames of {files} file{'' if files == 1 else 's'}")

    def _prepare_data(self) -> None:
        """Writes the style images, or the pairs."""
        look = self.look
        if isinstance(look, StyleImages):
            if not self.plan.steps:
                shutil.rmtree(self.styles, ignore_errors=True)
                self.styles.mkdir(parents=True)
                for number, path in enumerate(look.paths):
                    write_image(self.styles / f"{number:06d}.jpg", shrink_to(read_image(path), STYLE_SIDE))
        elif isinstance(look, Pairs):
            if not self.plan.pairs:
                folders = PairFolders(self.folder / "pairs", len(look.rows))
                shutil.rmtree(folders.folder, ignore_errors=True)
                write_pairs(look, folders, lambda done, total: self.on_progress("cutting pairs", done, total))
                self.plan.pairs = folders.total
        else:
            self._ask_teacher(look)

    def _ask_teacher(self, teacher: Teacher) -> None:
        """Runs the teacher on crops of the footage until all pairs are there."""
        plan, options = self.plan, self.options
        if plan.pairs and all(map(self.pairs.has, range(plan.pairs))):
            return
        frames = sorted(self.frames.glob("*.jpg"))
        with open_teacher(teacher, self.folder / "teacher.onnx", frames, options.color) as model:
            maker = PairMaker(model, frames, options.seed, options.view)
            if not plan.pairs:
                seconds = maker.time_pair()
                plan.pairs = PAIRS_OF_STEPS if options.steps else pairs_in(self._seconds_left(), seconds)
                plan.save(self.plan_file)
                what = (
                    f"{plan.pairs} pairs of {maker.size[0]}x{maker.size[1]} pixels by {teacher.path.name} on {model.engine.name}"
                )
                self.on_message(f"{what}: about {plan.pairs * seconds / 60:.1f} minutes here")
            maker.make_all(self.pairs, lambda done, total: self.on_progress("asking the teacher", done, total))

    def _train(self) -> None:
        options, plan = self.options, self.plan
        data = (self.frames, self.styles) if isinstance(self.look, StyleImages) else (self.pairs.before, self.pairs.after)
        if not plan.steps:
            if options.steps is None or options.steps > MEASURED_STEPS:
                self.on_message("measuring the time of a training step here")
                plan.step_seconds = measure_step_seconds(self.look, data, options.preset, options.seed)
            plan.steps = options.steps or steps_in(self._seconds_left(), plan.step_seconds)
            plan.save(self.plan_file)
        minutes = plan.steps * plan.step_seconds * OVERHEAD / 60
        estimate = f" of {plan.step_seconds:.2f} s, about {minutes:.1f} minutes in all" if minutes else ""
        self.on_message(f"training: {plan.steps} steps{estimate}")
        config = training_config(self.look, self.run_folder, data, options.preset, options.seed, plan.steps)
        try:
            train(
                recipe_of(self.look),
                config,
                resume=(self.run_folder / checkpoint.NAME).exists(),
                on_progress=lambda p: self.on_progress("training", p.step, p.steps),
                on_message=self.on_message,
            )
        except Interrupted as error:
            raise Interrupted(f"{str(error).partition(';')[0]}; type the same command again to resume") from error

    def _export(self) -> Figures:
        trained = read_generator(self.run_folder)
        export_onnx(trained, self.output, strength=self.options.strength, overwrite=self.options.overwrite)
        with cyclecast.load(self.output) as model:
            write_sheet(self.output.with_suffix(".jpg"), [read_image(path) for path in self._sheet_frames()], model)
            figures = measure(model, self.pairs.held_out)
        write_card(self.output.with_suffix(".md"), self.look, self.plan, recipe_of(self.look), figures)
        return figures

    def _sheet_frames(self) -> list[Path]:
        """Up to four images of the footage, evenly spread; without footage, of the pairs."""
        paths = sorted(self.frames.glob("*.jpg"))
        if not paths and isinstance(self.look, Pairs):
            paths = [before for before, _ in self.look.rows]
        return [paths[index] for index in spaced_indices(len(paths), 4)]
