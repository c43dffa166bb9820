"""The stages from a look and footage to a frame model. Each one continues where an earlier run was stopped."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cyclecast
from cyclecast.errors import CyclecastError, InputError, Interrupted, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.files import atomic_write
from cyclecast.style.crops import PairFolders, write_pairs
from cyclecast.style.folder import StyleFolder
from cyclecast.style.footage import extract_frames, shrink_to, spread_images
from cyclecast.style.looks import Look, Pairs, StyleImages, Teacher
from cyclecast.style.options import StyleOptions, StyleReport
from cyclecast.style.plan import (
    FINISHING_SECONDS,
    MEASURED_STEPS,
    OVERHEAD,
    Plan,
    format_minutes,
    measure_step_seconds,
    pairs_in,
    recipe_of,
    steps_in,
    training_config,
)
from cyclecast.style.result import Figures, measure, write_card, write_sheet
from cyclecast.style.stills import counted, read_opaque
from cyclecast.style.teacher import PairMaker, convert_teacher
from cyclecast.training import checkpoint
from cyclecast.training.data.images import spaced_indices
from cyclecast.training.loop import train
from cyclecast.training.machine import pick_device
from cyclecast.video.files.images import write_image
from cyclecast.video.frame import Image

STYLE_SIDE = 1024  # pixels of the shorter side of style images that are kept
PAIRS_OF_STEPS = 600  # a teacher's pairs where --steps is given
RESUME_HINT = "type the same command again to resume"

OnProgress = Callable[..., None]  # (stage, done, total)


@dataclass
class Stages:
    """The stages of a run, which share its folder and its plan. The folder is locked."""

    look: Look
    footage: Sequence[Path]
    """Images and videos."""
    folder: StyleFolder
    plan: Plan
    options: StyleOptions
    on_message: Callable[[str], None]
    on_progress: OnProgress

    def run(self) -> StyleReport:
        """Runs all stages in order; those that are complete take no time."""
        plan, folder = self.plan, self.folder
        if isinstance(self.look, Teacher) and not self.pairs.are_complete():
            with self._stage("data"):  # before hours of footage are read for a file that is no generator
                self._convert_teacher(self.look)
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
            output=str(folder.output),
            card=str(folder.card),
            sheet=str(folder.sheet),
            page=str(folder.run / "index.html"),
            recipe=recipe_of(self.look),
            frames=plan.frames,
            pairs=plan.pairs,
            steps=plan.steps,
            seconds={name: round(seconds, 1) for name, seconds in plan.seconds.items()},
            figures=shown,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Adds the time of a stage to the plan, also when it is interrupted."""
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            with suppress(OSError, CyclecastError):  # the first error counts
                self._end_stage(name, start)
            raise
        self._end_stage(name, start)

    def _end_stage(self, name: str, start: float) -> None:
        self.plan.seconds[name] = self.plan.seconds.get(name, 0.0) + time.perf_counter() - start
        self.plan.save(self.folder.plan_file)

    @property
    def pairs(self) -> PairFolders:
        """The pairs that are planned."""
        return PairFolders(self.folder.pairs, self.plan.pairs)

    def _seconds_left(self) -> float:
        """The time that training may take."""
        return 60 * self.options.allowed_minutes - sum(self.plan.seconds.values()) - FINISHING_SECONDS

    def _convert_teacher(self, teacher: Teacher) -> None:
        images: list[Image] = []
        for path in self.footage:
            with suppress(InputError):  # reported when the footage is read
                images = images or list(islice(spread_images(path, 2), 2))
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
        self.on_message(f"footage: {counted(plan.frames, 'frame')} of {counted(len(self.footage), 'file')}")

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
            self._ask_teacher(look)

    def _ask_teacher(self, teacher: Teacher) -> None:
        """Runs the teacher on crops of the footage until all pairs are there."""
        plan, options = self.plan, self.options
        with cyclecast.load(self._teacher_path) as model:
            maker = PairMaker(model, sorted(self.folder.frames.glob("*.jpg")), options.seed, options.view)
            seconds = maker.time_pair()
            if not plan.pairs:
                plan.pairs = PAIRS_OF_STEPS if options.steps else pairs_in(self._seconds_left(), seconds)
                plan.save(self.folder.plan_file)
            missing = sum(not self.pairs.has(number) for number in range(plan.pairs))
            size = f"{maker.size[0]}x{maker.size[1]}"
            what = f"{missing} pairs of {size} pixels by {teacher.path.name} on {model.engine.name}, {model.engine.device}"
            self.on_message(f"{what}: {format_minutes(missing * seconds)} here")
            maker.make_all(self.pairs, lambda done, total: self.on_progress("asking the teacher", done, total))

    def _train(self) -> None:
        options, plan, run = self.options, self.plan, self.folder.run
        data = (
            (self.folder.frames, self.folder.styles)
            if isinstance(self.look, StyleImages)
            else (self.pairs.before, self.pairs.after)
        )
        try:
            if not plan.steps:
                if options.steps is None or options.steps > MEASURED_STEPS:
                    self.on_message("measuring the time of a training step here")
                    plan.step_seconds = measure_step_seconds(
                        self.look, data, options.preset, options.seed, self.folder.root / "measuring"
                    )
                plan.steps = options.steps or steps_in(self._seconds_left(), plan.step_seconds)
                plan.save(self.folder.plan_file)
            left = plan.steps - self._steps_done()
            if not left:
                return self.on_message(f"training: all {plan.steps} steps are done")
            estimate = plan.step_seconds * OVERHEAD * left
            more = estimate - self._seconds_left()
            config = training_config(self.look, run, data, options.preset, options.seed, plan.steps)
            self.on_message(
                f"training on {pick_device(config.compute.device)}: "
                + counted(left, "step" if left == plan.steps else "more step")
                + (f" of {plan.step_seconds:.2f} s, {format_minutes(estimate)}" if estimate else "")
                + ("; fewer steps would learn too little" if options.steps is None and more > 60 else "")
            )
            report = train(
                recipe_of(self.look),
                config,
                resume=left < plan.steps,
                on_progress=lambda p: self.on_progress("training", p.step, p.steps),
                on_message=self.on_message,
            )
            if report.stop_requested:
                raise Interrupted(f"stopped after all {report.steps} steps of training, saved")
        except Interrupted as error:
            raise Interrupted(f"{str(error).partition(';')[0]}; {RESUME_HINT}") from error

    def _steps_done(self) -> int:
        """The steps that an earlier run has saved. ModelError if its checkpoint is damaged."""
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
            write_sheet(folder.sheet, [read_opaque(path) for path in self._sheet_frames()], model)
            figures = measure(model, self.pairs.held_out)
        write_card(folder.card, self.look, plan, recipe_of(self.look), options.strength, figures)
        plan.is_finished = True
        return figures

    def _sheet_frames(self) -> list[Path]:
        """Up to four images of the footage, evenly spread; without footage, of the pairs."""
        paths = sorted(self.folder.frames.glob("*.jpg"))
        if not paths and isinstance(self.look, Pairs):
            paths = [before for before, _ in self.look.rows]
        return [paths[index] for index in spaced_indices(len(paths), 4)]
