"""The commands that need the extra `train`: `train`, `evaluate`, `reproduce`."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cyclecast.cli.console import (
    EngineOption,
    JsonOption,
    PrecisionOption,
    console,
    extra,
    open_model,
    parse_settings,
    print_json,
    print_warnings,
    stage_bars,
)
from cyclecast.cli.training_progress import training_progress
from cyclecast.errors import ConfigError

TRAIN_DEVICE = "Device: auto (the best one present), cpu, cuda, cuda:N, mps or xpu. Default: auto."
EVALUATE_DEVICE = (
    "Device. For a run: auto (the best one present), cpu, cuda, cuda:N, mps or xpu; its classifiers also run on cuda, otherwise "
    "on the CPU. For a frame model: as in `convert`; its classifiers run on the CPU."
)


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Recipe: cyclegan, cut, pix2pix, distill, style_transfer, supervised, simgan, bigan, cogan, gan, dcgan or wgan.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run, for checkpoint, log, samples and page. Required, except with --settings."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with trainA and trainB, with train (pairs side by side), or with train and train_labels; for gan, dcgan "
            "and wgan, a folder of images, a file of digits or a folder with one."
        ),
    ] = None,
    domain_a: Annotated[
        Path | None, typer.Option(help="Images of domain A: a folder or a file of digits. Default: from --data.")
    ] = None,
    domain_b: Annotated[
        Path | None, typer.Option(help="Images of domain B: a folder or a file of digits. Default: from --data.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings, or the name of shipped ones, such as fastcut. Flags override it."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; --settings lists all. Repeatable."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Number of generator steps of the whole run. Default: depends on the recipe.")
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(
            min=1, help="Save and stop after this step; the schedule stays that of the whole run. Default: the last step."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and augmentation. Default: 0.")] = None,
    device: Annotated[str | None, typer.Option(help=TRAIN_DEVICE)] = None,
    list_all: Annotated[
        bool,
        typer.Option("--settings", help="List the settings of the recipe with type, default and meaning, and train nothing."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in --out with its settings. Flags override them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a generator from folders of images or files of digits. Needs the extra `train`.

    The page of the run, index.html in --out, shows samples within two minutes and then after growing waits.

    Ctrl-C stops after the current step and saves, with exit code 130; a second Ctrl-C ends at once. A run whose last step is
    done is complete, with exit code 0, whenever Ctrl-C came.

    Example: cyclecast train cyclegan --data monet2photo --out runs/monet --set generator=resnet6
    """
    with extra("train"):
        from cyclecast.training import checkpoint
        from cyclecast.training.config import data_settings, find_settings, load_config
        from cyclecast.training.loop import train as run
        from cyclecast.training.machine import pick_device, pick_precision
        from cyclecast.training.recipes import RECIPES
        from cyclecast.training.settings_list import list_settings
    if recipe not in RECIPES:
        raise ConfigError(f"no recipe named {recipe!r}; there are: {', '.join(RECIPES)}")
    if list_all:
        lines = list_settings(RECIPES[recipe].Config)
        if as_json:
            return print_json({"recipe": recipe, "settings": [dataclasses.asdict(line) for line in lines]})
        return print(*lines, sep="\n")
    if out is None:
        raise typer.BadParameter("name a folder for the run", param_hint="--out")
    state = checkpoint.load(out / checkpoint.NAME) if resume else {"config": {}}
    if resume:
        checkpoint.require_complete(out / checkpoint.NAME, state)
        if state["recipe"] != recipe:
            raise ConfigError(f"{out}: a run of {state['recipe']!r}, not of {recipe!r}")
    base = state["config"] | ({"precision": state["precision"]} if resume else {})
    flags = {"domain_a": domain_a, "domain_b": domain_b, "steps": steps, "seed": seed, "device": device, "out": out}
    overrides = data_settings(RECIPES[recipe].Config, data) | {key: value for key, value in flags.items() if value is not None}
    file = None if config is None else find_settings(config)
    chosen = load_config(RECIPES[recipe].Config, base=base, file=file, settings=overrides | parse_settings(settings or []))
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0:
        picked = pick_device(chosen.compute.device, int(os.environ.get("LOCAL_RANK", "0")))
        console.print(f"training {recipe} on {picked}, {pick_precision(chosen.compute.precision, picked)}", markup=False)
    with training_progress(is_shown=rank == 0) as (on_progress, print_message), ExitStack() as stack:
        if rank == 0:
            stack.enter_context(print_warnings(print_message))
        on_message = print_message if rank == 0 else None
        report = run(recipe, chosen, resume=resume, until=until, on_progress=on_progress, on_message=on_message)
    if rank:
        return None
    if as_json:
        return print_json(dataclasses.asdict(report))
    console.print(f"{report.checkpoint}: step {report.steps}, {report.pairs_per_second:.2f} pairs/s", markup=False)
    console.print(f"{report.page}: the page of the run", markup=False)


def evaluate(
    subject: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="The folder of a run, its checkpoint, or a frame model.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Data, as in `train`. Default: a run's training data, unless --judge is given; else none."),
    ] = None,
    domain_a: Annotated[
        Path | None, typer.Option(help="Images of domain A: a folder or a file of digits. Default: from --data, or the run's.")
    ] = None,
    domain_b: Annotated[
        Path | None, typer.Option(help="Images of domain B: a folder or a file of digits. Default: from --data, or the run's.")
    ] = None,
    judge: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="TARGET PHOTOS",
            help="Train a classifier on TARGET, a folder of images in the target style or one such image, and PHOTOS, a folder; "
            "print the share of styled patches that it classifies as the target. Default: no classifier.",
        ),
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image, folder of images or video whose frames are styled for --judge. Repeatable. Default: the photos that the "
            "classifier was not trained on."
        ),
    ] = None,
    height: Annotated[
        int, typer.Option(min=256, help="Shorter side in pixels of the frames for --judge; they are resized to it.")
    ] = 720,
    clip: Annotated[
        Path | None, typer.Option(help="Video for measuring the flicker of a frame model. Default: flicker is not measured.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length in seconds of the part of the clip that is used.")] = 4.0,
    side: Annotated[int, typer.Option(min=32, help="Side in pixels of the center crops for a frame model.")] = 256,
    inception: Annotated[
        Path | None,
        typer.Option(help="Inception weights for FID and KID, in torch-fidelity's format. Default: EfficientNet's features."),
    ] = None,
    engine: EngineOption = "auto",
    device: Annotated[str, typer.Option(help=EVALUATE_DEVICE)] = "auto",
    precision: PrecisionOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of CPU threads of the engine and of PyTorch. Default: their own choice.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the classifiers that the evaluation trains, and of the patches.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a generator: style, FID and KID, label and digit accuracy, structure kept, flicker. Needs the extra `train`.

    Example: cyclecast evaluate monet --judge paintings photos --frames holiday.mp4 --clip holiday.mp4
    """
    if frames and judge is None:
        raise ConfigError("--frames needs --judge TARGET PHOTOS")
    with extra("train"):
        from cyclecast.export.torch_engine import torch_threads
        from cyclecast.measure import measure_model
        from cyclecast.measure_style import measure_style, models_of_run, prepare_reference
        from cyclecast.runtime.threads import check_threads
        from cyclecast.training.evaluate.run import evaluate_run
        from cyclecast.training.machine import pick_device
    names_data = any(path is not None for path in (data, domain_a, domain_b))
    check_threads(threads)
    with ExitStack() as stack:
        stack.enter_context(print_warnings())
        stack.enter_context(torch_threads(threads))
        models = {}
        if Path(subject).is_dir() or subject.endswith((".pt", ".pth")):
            if clip is not None:
                raise ConfigError("flicker is measured on a frame model: export the run, then evaluate that")
            models = models_of_run(Path(subject)) if judge else {}
            figures: dict[str, dict[str, Any]] = {direction: {} for direction in models}
            if judge is None or names_data:
                picked = pick_device(device)
                console.print(f"evaluating {subject} on {picked}", markup=False)
                figures = evaluate_run(
                    Path(subject), data, domain_a=domain_a, domain_b=domain_b, inception=inception, seed=seed, device=picked
                )
        elif not names_data and clip is None and judge is None:
            raise ConfigError("nothing to measure a frame model on: name --judge, --data, --domain-a and --domain-b, or --clip")
        else:
            model = stack.enter_context(open_model(subject, engine, device, precision, threads))
            figures = measure_model(model, data, clip, seconds, side, inception, seed, domain_a, domain_b)
            models = dict.fromkeys(figures, model)
        if judge is not None:
            update = stack.enter_context(stage_bars())
            reference = prepare_reference(*judge, frames or [], height, seed, update)
            for direction, model in models.items():
                figures[direction] |= measure_style(model, reference, update)
    if as_json:
        return print_json(figures)
    table = Table("direction", "figure", "value", title=subject)
    for direction, values in figures.items():
        for name, value in values.items():
            table.add_row(direction, name, f"{value:.5g}" if isinstance(value, float) else str(value))
    console.print(table)


def reproduce(
    experiment: Annotated[str, typer.Argument(help="Experiment: digits, latent or street.")],
    data: Annotated[
        Path, typer.Option(help="Folder with mnist.npz and, for digits, usps.npz; for street, the folder that contains camvid.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the runs and the page. An interrupted experiment in it is resumed.")],
    quick: Annotated[bool, typer.Option("--quick", help="Train a fifth of the steps; street: also on smaller images.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is trained.")] = 0,
    device: Annotated[str, typer.Option(help=f"{TRAIN_DEVICE} The classifiers run on the CPU.", show_default=False)] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Repeat an experiment of the GAN papers, from the data to a page. Needs the extra `train`.

    digits: CycleGAN between MNIST and USPS. latent: GAN, DCGAN and WGAN on MNIST. street: labels and photos, with CycleGAN's
    baselines and ablations, on CamVid.

    Example: cyclecast reproduce digits --data data/digits --out runs/digits
    """
    with extra("train"):
        from cyclecast.training.machine import pick_device
        from cyclecast.training.reproduce import EXPERIMENTS
        from cyclecast.training.reproduce.experiment import Experiment
    if experiment not in EXPERIMENTS:
        raise ConfigError(f"no experiment named {experiment!r}; there are: {', '.join(EXPERIMENTS)}")
    console.print(f"reproducing {experiment} on {pick_device(device)}", markup=False)
    with stage_bars("steps/s") as on_progress, print_warnings():
        page = EXPERIMENTS[experiment](data, Experiment(out, seed, device, 0.2 if quick else 1.0, on_progress))
    if as_json:
        return print_json({"page": str(page), **json.loads((out / "results.json").read_text("utf-8"))})
    console.print(f"{page}: the page of the experiment", markup=False)
