"""Commands about training: `train`, `evaluate`, `reproduce`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cyclecast.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    bars,
    console,
    extra,
    open_model,
    parse_settings,
    print_json,
)
from cyclecast.errors import ConfigError


def train(
    recipe: Annotated[str, typer.Argument(help="gan, dcgan, wgan, cyclegan, pix2pix, cogan, bigan, simgan or distill.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with trainA and trainB; with train and val of pairs; or, for gan, dcgan and wgan, of images."),
    ] = None,
    domain_a: Annotated[Path | None, typer.Option(help="Images of domain A: a folder, or a file of digits.")] = None,
    domain_b: Annotated[Path | None, typer.Option(help="Images of domain B: a folder, or a file of digits.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Generator steps in all.")] = None,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after this step, with the schedule of the whole run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, batches and augmentation.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, with its settings.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a generator from folders of images or files of digits; needs the extra `train`.

    Example: cyclecast train cyclegan --data monet2photo --out runs/monet --set generator=resnet6
    """
    with extra("train"):
        from cyclecast.training import checkpoint
        from cyclecast.training.config import data_settings, load_config
        from cyclecast.training.loop import train as run
        from cyclecast.training.recipes import RECIPES
    if recipe not in RECIPES:
        raise ConfigError(f"no recipe named {recipe!r}; there are: {', '.join(RECIPES)}")
    before = checkpoint.load(out / checkpoint.NAME) if resume else {"config": {}}
    if resume and before["recipe"] != recipe:
        raise ConfigError(f"{out}: a run of {before['recipe']!r}, not of {recipe!r}")
    saved = before["config"] | ({"precision": before["precision"]} if resume else {})
    flags = {"domain_a": domain_a, "domain_b": domain_b, "steps": steps, "seed": seed, "device": device, "out": out}
    flagged = data_settings(RECIPES[recipe].Config, data) | {key: value for key, value in flags.items() if value is not None}
    chosen = load_config(RECIPES[recipe].Config, base=saved, file=config, settings=flagged | parse_settings(settings or []))
    with bars(speed="pairs/s") as bar:
        update = bar(f"training {recipe}")
        report = run(
            recipe,
            chosen,
            resume=resume,
            until=until,
            on_progress=lambda p: update(p.step, p.steps, ", ".join(f"{k} {v:.2f}" for k, v in p.losses.items())),
        )
    if int(os.environ.get("RANK", "0")):
        return None
    if as_json:
        return print_json(dataclasses.asdict(report))
    console.print(f"{report.checkpoint}: step {report.steps}, {report.pairs_per_second:.2f} pairs/s", markup=False)
    console.print(f"{report.page}: the run to look at", markup=False)


def evaluate(
    subject: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, its checkpoint, or a frame model.")],
    data: Annotated[Path | None, typer.Option(help="As in `train`; default for a run: what it was trained on.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Of a frame model: measure its flicker on this video.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How much of the clip.")] = 4.0,
    side: Annotated[int, typer.Option(min=32, help="Of a frame model: pixels of the center crops of the data.")] = 256,
    inception: Annotated[Path | None, typer.Option(help="Inception weights for FID and KID, in torch-fidelity's format.")] = None,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Annotated[int, typer.Option(help="Of the classifiers that judge.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure what a generator makes: FID and KID, labels, digits, structure kept, flicker; needs the extra `train`.

    Example: cyclecast evaluate monet --data monet2photo --clip holiday.mp4
    """
    with extra("train"):
        from cyclecast.measure import measure_model
        from cyclecast.training.evaluate.run import evaluate_run
    if Path(subject).is_dir() or subject.endswith((".pt", ".pth")):
        if clip is not None:
            raise ConfigError("flicker is measured on a frame model: export the run, then evaluate that")
        figures = evaluate_run(Path(subject), data, inception=inception, seed=seed)
    elif data is None and clip is None:
        raise ConfigError("nothing to measure a frame model on: name --data, --clip or both")
    else:
        with open_model(subject, engine, device, precision) as model:
            figures = measure_model(model, data, clip, seconds, side, inception, seed)
    if as_json:
        return print_json(figures)
    table = Table("direction", "figure", "value", title=subject)
    for direction, values in figures.items():
        for name, value in values.items():
            table.add_row(direction, name, f"{value:.5g}" if isinstance(value, float) else str(value))
    console.print(table)


def reproduce(
    experiment: Annotated[str, typer.Argument(help="digits, latent or street.")],
    data: Annotated[Path, typer.Option(help="Folder of the data: that of mnist.npz and usps.npz; for street, that of camvid.")],
    out: Annotated[Path, typer.Option(help="Folder of the page; begun work in it is gone on with.")],
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the steps, smaller pictures.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything that is trained.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Repeat an experiment of the GAN papers, from the data to a page; needs the extra `train`.

    digits: CycleGAN between MNIST and USPS. latent: GAN, DCGAN and WGAN on MNIST. street: labels and photos, with CycleGAN's
    baselines and ablations, on CamVid.

    Example: cyclecast reproduce digits --data data/digits --out runs/digits
    """
    with extra("train"):
        from cyclecast.training.reproduce import EXPERIMENTS
        from cyclecast.training.reproduce.experiment import Experiment
    if experiment not in EXPERIMENTS:
        raise ConfigError(f"no experiment named {experiment!r}; there are: {', '.join(EXPERIMENTS)}")
    with bars(speed="steps/s") as bar:
        stages: dict[str, Callable[..., None]] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar(stage)
            stages[stage](done, total)

        page = EXPERIMENTS[experiment](data, Experiment(out, seed, device, 0.2 if quick else 1.0, tell))
    if as_json:
        return print_json({"page": str(page), **json.loads((out / "results.json").read_text("utf-8"))})
    console.print(f"{page}: the experiment to look at", markup=False)
