"""Runs the stages from a look and footage to a frame model. Each stage continues where an earlier run was stopped."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import cyclecast
from cyclecast.errors import CyclecastError, InputError, Interrupted, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.files import atomic_write
from cyclecast.phrases import count_noun
from cyclecast.style.crops import PairFolders, write_pairs
from cyclecast.style.folder import StyleFolder
from cyclecast.style.footage import extract_frames, sample_images, shrink_to
from cyclecast.style.looks import Look, Pairs, StyleImages, Teacher
from cyclecast.style.options import StyleOptions, StyleReport
from cyclecast.style.plan import (
    FINISHING_SECONDS,
    MEASURED_STEPS,
    OVERHEAD,
    REPLANNED_STEPS,
    Plan,
    first_steps,
    format_minutes,
    measure_step_seconds,
    pairs_in,
    recipe_of,
    steps_in,
    training_config,
)
from cyclecast.style.result import Figures, measure, write_card, write_properties, write_sheet
from cyclecast.style.stills import read_opaque
from cyclecast.style.teacher import PairMaker, convert_teacher
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.data.images import spaced_indices
from cyclecast.training.loop import Progress, train
from cyclecast.training.machine import pick_device
from cyclecast.video.files.images import write_image
from cyclecast.video.frame import Image

STYLE_SIDE = 1024  # pixels of the shorter side of style images, at most
PAIRS_WITHOUT_TIME = 600  # of a teacher, if --steps sets the length of the run
RESUME_HINT = "type the same command again to resume"

OnProgress = Callable[..., None]  # (stage, done, total)


@dataclass
class Stages:
    """The stages of a run, which share its plan and its folder. The caller holds the folder's lock."""

    look: Look
    footage: Sequence[Path]
    """Images and videos."""
    folder: StyleFolder
    plan: Plan
    options: StyleOptions
    on_message: Callable[[str], None]
    on_progress: OnProgress

    def run(self) -> StyleReport:
        """Runs all stages in order, except those that are complete."""
        plan, folder = self.plan, self.folder
        if isinstance(self.look, Teacher) and not self.pairs.are_complete():
            with self._stage("data"):  # first, because a file that is no generator must not cost hours of reading footage
                self._convert_teacher(self.look)
        with self._stage("footage"):
            self._extract_frames()
        with self._stage("data"):
            self._prepare_data()
        with self._stage("training"):
            self._train()
        with self._stage("export"):
            figures = self._export()
        measured = {name: value for name, value in dataclasses.asdict(figures).items() if value is not None}
        return StyleReport(
            output=str(folder.output),
            card=str(folder.card),
            sheet=str(folder.sheet),
            page=str(folder.run / "index.html"),
            recipe=recipe_of(self.look),
            frames=plan.frames,
            pairs=plan.pairs,
            steps=plan.steps,
            seconds={name: round(seconds, 1) for name, seconds in plan.seconds.items()},
            figures=measured,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Adds the time of a stage to the plan, even if the stage is interrupted."""
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            with suppress(OSError, CyclecastError):  # the stage's own error counts
                self._end_stage(name, start)
            raise
        self._end_stage(name, start)

    def _end_stage(self, name: str, start: float) -> None:
        self.plan.seconds[name] = self.plan.seconds.get(name, 0.0) + time.perf_counter() - start
        self.plan.save(self.folder.plan_file)

    @property
    def pairs(self) -> PairFolders:
        """Returns the folders of the planned pairs."""
        return PairFolders(self.folder.pairs, self.plan.pairs)

    def _seconds_left(self, start: float | None = None) -> float:
        """Returns the seconds that training may take. start: when the present stage began, by time.perf_counter()."""
        spent = 0.0 if start is None else time.perf_counter() - start
        return 60 * self.options.allowed_minutes - sum(self.plan.seconds.values()) - spent - FINISHING_SECONDS

    def _convert_teacher(self, teacher: Teacher) -> None:
        images: list[Image] = []
        for path in self.footage:
            with suppress(InputError):  # reported when the footage is read
                images = images or list(islice(sample_images(path, 2), 2))
        if not images:
            raise InputError(f"{self.footage[0]}: cannot be read; --footage expects images or videos")
        options = (self.options.color, self.options.key, self.on_message)
        self._teacher_path = convert_teacher(teacher, self.folder.teacher, images, *options)

    def _extract_frames(self) -> None:
        plan, frames = self.plan, self.folder.frames
        if not self.footage or (plan.frames and len(list(frames.glob("*.jpg"))) == plan.frames):
            return
        shutil.rmtree(frames, ignore_errors=True)
        plan.frames = extract_frames(
            self.footage, frames, lambda done, total: self.on_progress("reading footage", done, total), self.on_message
        )
        self.on_message(f"footage: {count_noun(plan.frames, 'frame')} of {count_noun(len(self.footage), 'file')}")

    def _prepare_data(self) -> None:
        """Writes the style images, or the pairs, where they are missing."""
        look = self.look
        if isinstance(look, StyleImages):
            for number, path in enumerate(look.paths):
                copy = self.folder.styles / f"{number:06d}.jpg"
                if not copy.exists():
                    with atomic_write(copy) as partial:
                        write_image(partial, shrink_to(read_opaque(path), STYLE_SIDE))
                self.on_progress("reading the style", number + 1, len(look.paths))
        elif isinstance(look, Pairs):
            folders = PairFolders(self.folder.pairs, len(look.rows))
            if not folders.are_complete():
                write_pairs(look, folders, lambda done, total: self.on_progress("cutting pairs", done, total))
            self.plan.pairs = folders.total
        elif not self.pairs.are_complete():
            self._generate_pairs(look)

    def _generate_pairs(self, teacher: Teacher) -> None:
        """Runs the teacher on crops of the footage until all pairs exist."""
        plan, options = self.plan, self.options
        with cyclecast.load(self._teacher_path) as model:
            maker = PairMaker(model, sorted(self.folder.frames.glob("*.jpg")), options.seed, options.view)
            seconds = maker.time_pair()
            if not plan.pairs:
                plan.pairs = PAIRS_WITHOUT_TIME if options.steps else pairs_in(self._seconds_left(), seconds)
                plan.save(self.folder.plan_file)
            missing = sum(not self.pairs.has_pair(number) for number in range(plan.pairs))
            size = f"{maker.size[0]}x{maker.size[1]}"
            what = f"{missing} pairs of {size} pixels by {teacher.path.name} on {model.engine.name}, {model.engine.device}"
            self.on_message(f"{what}: {format_minutes(missing * seconds)} here")
            maker.make_all(self.pairs, lambda done, total: self.on_progress("running the teacher", done, total))

    def _train(self) -> None:
        plan, start = self.plan, time.perf_counter()
        try:
            if not plan.steps:
                self._plan_steps()
            if not plan.is_replanned:
                self._replan_steps(start)
            if self._steps_done() == plan.steps:
                return self.on_message(f"training: all {plan.steps} steps are done")
            self._train_until(plan.steps, start)
        except Interrupted as error:
            raise Interrupted(f"{str(error).partition(';')[0]}; {RESUME_HINT}") from error

    def _plan_steps(self) -> None:
        """Decides the number of steps, by a short measurement if a time is given."""
        options, plan = self.options, self.plan
        if options.steps is None or options.steps > MEASURED_STEPS:
            self.on_message("measuring the time of a training step here")
            measuring = self.folder.root / "measuring"
            plan.step_seconds = measure_step_seconds(self.look, self._data, options.preset, options.seed, measuring)
        plan.steps = options.steps or steps_in(self._seconds_left(), plan.step_seconds)
        plan.is_replanned = options.steps is not None
        plan.save(self.folder.plan_file)

    def _replan_steps(self, start: float) -> None:
        """Trains a first part, and plans the rest by the time that its steps took: one busy minute misleads a short measurement.

        start: when this stage began, by time.perf_counter().
        """
        plan, first = self.plan, first_steps(self._config(), self.plan.steps)
        if self._steps_done() < first < plan.steps:
            planned, times = plan.steps, self._train_until(first, start)
            plan.step_seconds = statistics.median(times[-REPLANNED_STEPS:])
            plan.steps = steps_in(self._seconds_left(start), plan.step_seconds, first)
            if plan.steps != planned:
                self.on_message(f"a step takes {plan.step_seconds:.2f} s: {plan.steps} steps in place of {planned}")
        plan.is_replanned = True
        plan.save(self.folder.plan_file)

    def _train_until(self, until: int, start: float) -> list[float]:
        """Trains until this step. Returns the seconds of each step."""
        config, plan, done = self._config(), self.plan, self._steps_done()
        left, seconds_left = plan.steps - done, self._seconds_left(start)
        estimate = plan.step_seconds * OVERHEAD * left
        self.on_message(
            f"training on {pick_device(config.compute.device)}: "
            + count_noun(left, "step" if left == plan.steps else "more step")
            + (f" of {plan.step_seconds:.2f} s, {format_minutes(estimate)}" if estimate else "")
            + ("; fewer steps would learn too little" if self.options.steps is None and estimate > seconds_left + 60 else "")
        )
        ends = [time.perf_counter()]

        def on_progress(progress: Progress) -> None:
            ends.append(time.perf_counter())
            self.on_progress("training", progress.step, progress.steps)

        recipe = recipe_of(self.look)
        report = train(recipe, config, resume=done > 0, until=until, on_progress=on_progress, on_message=self.on_message)
        if report.stop_requested:
            raise Interrupted(f"stopped after {report.steps} of {plan.steps} steps of training, saved")
        return [after - before for before, after in pairwise(ends)]

    @property
    def _data(self) -> tuple[Path, Path]:
        """Returns the two folders that training reads."""
        if isinstance(self.look, StyleImages):
            return self.folder.frames, self.folder.styles
        return self.pairs.before, self.pairs.after

    def _config(self) -> TrainConfig:
        return training_config(self.look, self.folder.run, self._data, self.options.preset, self.options.seed, self.plan.steps)

    def _steps_done(self) -> int:
        """Returns the steps that an earlier run has saved. Raises ModelError if its checkpoint is damaged."""
        saved = self.folder.run / checkpoint.NAME
        if not saved.exists():
            return 0
        try:
            return int(checkpoint.load(saved)["step"])
        except (ModelError, KeyError) as error:
            raise ModelError(f"{saved}: damaged; delete it to train again, with everything else kept") from error

    def _export(self) -> Figures:
        folder, plan, options = self.folder, self.plan, self.options
        folder.check_outputs(plan, options.overwrite)
        trained = read_generator(folder.run)
        plan.owns_outputs, plan.is_finished = True, False
        plan.save(folder.plan_file)
        export_onnx(trained, folder.output, strength=options.strength, overwrite=True)
        with cyclecast.load(folder.output) as model:
            frames = [read_opaque(path) for path in self._sheet_frames()]
            write_sheet(folder.sheet, frames, model)
            styled = model(frames[0])
            figures = measure(model, self.pairs.held_out)
        card = write_card(folder.card, self.look, plan, recipe_of(self.look), options, figures)
        write_properties(folder.output, card, frames[0], styled)
        plan.is_finished = True
        return figures

    def _sheet_frames(self) -> list[Path]:
        """Returns up to four evenly spaced frames of the footage; without footage, images before of the pairs."""
        paths = sorted(self.folder.frames.glob("*.jpg"))
        if not paths and isinstance(self.look, Pairs):
            paths = [before for before, _ in self.look.rows]
        return [paths[index] for index in spaced_indices(len(paths), 4)]
