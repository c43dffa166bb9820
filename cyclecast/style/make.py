"""`make_style` turns a look and footage into a frame model, in stages that a second call resumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, CyclecastError, Interrupted, ModelError, OutputExistsError
from cyclecast.files import write_error
from cyclecast.style.folder import StyleFolder
from cyclecast.style.footage import list_footage, report_skipped
from cyclecast.style.looks import Look, Pairs, Teacher, digest_look, locate, read_look
from cyclecast.style.options import StyleOptions, StyleReport
from cyclecast.style.plan import Plan, format_minutes, read_plan, recipe_of, require_same_request, require_time
from cyclecast.style.stages import RESUME_HINT, OnProgress, Stages
from cyclecast.style.teacher import TeacherView


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

    looks: images of a style, folders of them, or one generator. footage: videos, images or folders of what will be styled, or
    of something similar. pairs: two folders with images of the same names, instead of looks. on_message: called with a line
    for people. on_progress: called with the name of a stage, what is done and the total. Everything in progress is in the
    folder OUTPUT.style; the same call resumes there after any interruption, with the same result.

    Raises InputError (an input that is missing, unreadable or too small), ConfigError (arguments that do not go together),
    OutputError (an output exists, or cannot be written), ModelError (not a generator; a damaged plan or checkpoint), what
    training raises, and Interrupted after Ctrl-C, with everything saved.
    """
    options, on_message = options or StyleOptions(), on_message or _ignore
    folder = StyleFolder(output)
    look, files, request = read_request(looks, folder, footage, pairs, options)
    try:
        with folder.lock():
            plan, is_resumed = open_plan(folder, request, options.overwrite)  # again, because another run may have just ended
            if not is_resumed:
                folder.clear()
                plan.save(folder.plan_file)
            announce(look, folder, options, is_resumed, on_message)
            try:
                return Stages(look, files, folder, plan, options, on_message, on_progress or _ignore).run()
            except CyclecastError as error:
                if not (
                    plan.is_costly or isinstance(error, Interrupted)
                ):  # a bad input that is found late leaves no folder, either
                    folder.remove()
                raise
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {RESUME_HINT}") from error
    except CyclecastError:
        raise
    except OSError as error:  # for example, the disk is full
        raise write_error(error, folder.root) from error


def _ignore(*_: object) -> None:
    pass


def read_request(
    looks: Sequence[str | Path],
    folder: StyleFolder,
    footage: Sequence[Path],
    pairs: tuple[Path, Path] | None,
    options: StyleOptions,
) -> tuple[Look, list[Path], dict[str, Any]]:
    """Checks everything that can be checked before anything is written.

    Returns the look, the files of the footage, and the request that a plan is made for. Errors: see `make_style`.
    """
    require_time(options.minutes, options.steps)
    output = folder.output
    if output.suffix != ".onnx":
        raise ConfigError(f"{output}: expected the name of an ONNX file, such as {output.stem or 'style'}.onnx")
    plan = _load_plan(folder, options.overwrite)
    folder.check_outputs(plan, options.overwrite)
    sources = [*footage, *map(locate, looks), *(pairs or ())]
    folder.check_sources(sources)
    is_own = partial(folder.is_own, with_outputs=plan.owns_outputs)
    look = read_look(looks, pairs, is_own)
    if not isinstance(look, Teacher) and (options.view, options.color, options.key) != (TeacherView(), None, None):
        raise ConfigError("--teacher-height, --teacher-scale, --teacher-shifts, --color and --key are for a generator as LOOK")
    if not footage and not isinstance(look, Pairs):
        raise ConfigError("expected --footage: videos or images like those that you want to style")
    files = list_footage(footage, is_own)
    folder.check_inputs([path for path in (*look.paths, *files) if path in sources or not is_own(path)])
    request: dict[str, Any] = {
        "look": [str(path.resolve()) for path in map(locate, looks)] or [str(path.resolve()) for path in pairs or ()],
        "files of the look": [digest_look(look)],
        "footage": [str(path.resolve()) for path in footage],
        "minutes": None if options.steps else options.allowed_minutes,
        "steps": options.steps,
        "preset": options.preset,
        "seed": options.seed,
        "teacher": dataclasses.asdict(options.view) | {"color": options.color},
    }
    if options.key is not None:  # left out otherwise, so that plans from before this option are resumed
        request["teacher"]["key"] = options.key
    open_plan(folder, request, options.overwrite)  # raises if the folder holds another request
    return look, files, request


def open_plan(folder: StyleFolder, request: dict[str, Any], overwrite: bool) -> tuple[Plan, bool]:
    """Returns the plan to resume, or a new one, and whether it is resumed.

    A plan for another request is replaced if `overwrite` allows it, or if only frames would be lost; otherwise this raises
    OutputExistsError. Raises ModelError for a damaged plan that may not be replaced.
    """
    plan = _load_plan(folder, overwrite)
    new = Plan(request, owns_outputs=plan.owns_outputs)
    try:
        require_same_request(plan, request, folder.root)
    except OutputExistsError:
        if plan.request and plan.is_costly and not overwrite:
            raise
        return new, False
    return plan, True


def _load_plan(folder: StyleFolder, overwrite: bool) -> Plan:
    """Reads the plan in the folder; returns an empty one if there is none, or if it is damaged and may be replaced."""
    try:
        return read_plan(folder.plan_file) or Plan({})
    except ModelError:
        if overwrite:
            return Plan({})
        raise


def announce(look: Look, folder: StyleFolder, options: StyleOptions, is_resumed: bool, on_message: Callable[[str], None]) -> None:
    """Reports what will be learned, and how long it takes."""
    time_given = "" if options.steps else f": {format_minutes(60 * options.allowed_minutes)} in all"
    on_message(f"learning {look}, with the recipe {recipe_of(look)}, preset {options.preset}{time_given}")
    report_skipped(look.skipped, on_message)
    if is_resumed:
        on_message(f"resuming {folder.root}")
