"""The command line: parse, import inside, call one function, print. People read stderr, scripts read `--json` on stdout."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

import cyclecast
from cyclecast.errors import ConfigError, CyclecastError

if TYPE_CHECKING:
    from cyclecast.runtime.model import Model

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From training a CycleGAN-type generator to live video.",
)
console = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED = 130  # exit code after Ctrl-C or SIGTERM

ModelOption = Annotated[str, typer.Option("--model", "-m", help="A bundled name (`cyclecast models`) or an ONNX frame model.")]
EngineOption = Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, gpu or cuda:N.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else there.")]


def main() -> None:
    """The console script: our own errors become one line and exit code 1; SIGTERM cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except CyclecastError as error:
        fail(str(error))
    except ImportError as error:
        if "shared object" not in str(error):
            raise
        fail(f"{error}; on Debian and Ubuntu: apt install libgl1 libglib2.0-0")  # what opencv-python wants of a bare system
    except SystemExit as ended:  # typer turns Ctrl-C into this code, without a word
        if ended.code == INTERRUPTED:
            fail("interrupted", code=INTERRUPTED)
        raise


def fail(message: str, code: int = 1) -> None:
    """One line on stderr, then the end."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def print_version(wanted: bool) -> None:
    """`--version`."""
    if wanted:
        print(f"cyclecast {cyclecast.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options that stand before a command."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the three files.")] = Path("cyclecast-demo"),
    model: ModelOption = "monet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    work_height: Annotated[
        int | None, typer.Option(min=16, help="Paint at this height: fewer lines, larger strokes, more speed.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="Length of the scene.")] = 4.0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """The main job, on this machine, now: draw a scene with sound, convert it, show the figures.

    Example: cyclecast demo --out demo
    """
    from cyclecast.demo import run_demo

    with opened(model, engine, device, precision) as opened_model, bars() as bar:
        made = run_demo(
            out,
            opened_model,
            seconds=seconds,
            work_height=work_height,
            overwrite=overwrite,
            on_render=bar("drawing"),
            on_convert=bar("converting"),
        )
        facts = engine_facts(opened_model)
    report = made.report
    if as_json:
        return print_json({**dataclasses.asdict(report), **facts, "clip": str(made.clip), "before_after": str(made.before_after)})
    rows = {
        "engine": f"{facts['engine']} {facts['precision']} on {facts['device']}",
        "model": opened_model.name,
        "size": f"{report.width}x{report.height}" + (f", painted at a height of {work_height}" if work_height else ""),
        "frames": f"{report.frames}, sound {report.audio}",
        "frames per second": f"{report.fps:.1f} (model alone {1000 / report.stages_ms['model']:.1f})",
        "clip": str(made.clip),
        "styled clip": str(made.styled),
        "before and after": str(made.before_after),
    }
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths stay whole
    for name, value in rows.items():
        table.add_row(name, value)
    Console(soft_wrap=True, highlight=False).print(table)


@app.command()
def convert(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Videos, images, folders, globs.")],
    output: Annotated[str, typer.Argument(help="A file, or a folder for several.")],
    model: ModelOption = "monet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    codec: Annotated[str | None, typer.Option(help="h264, hevc, av1 or vp9; default by container.")] = None,
    crf: Annotated[int | None, typer.Option(min=0, max=63, help="Quality, lower is better; default by codec.")] = None,
    preset: Annotated[str | None, typer.Option(help="The encoder's own speed preset; x264: ultrafast ... veryslow.")] = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave the sound out.")] = False,
    work_height: Annotated[
        int | None, typer.Option(min=16, help="Run the model at this height, deliver the source's size.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run videos and images through a model; sound and timestamps are kept.

    Example: cyclecast convert holiday.mp4 painted.mp4 --model monet
    """
    from cyclecast.video.convert import ConvertOptions, convert_file, plan

    options = ConvertOptions(
        codec=codec, crf=crf, preset=preset, audio=not no_audio, work_height=work_height, overwrite=overwrite
    )
    planned = plan(sources, output)
    several = len(planned) > 1 or planned[0][0] != Path(sources[0])  # a folder or glob is several, whatever it holds
    results: list[dict[str, Any]] = []
    with opened(model, engine, device, precision) as opened_model:
        facts = engine_facts(opened_model)
        for source, target in planned:
            try:
                with bars() as bar:
                    report = convert_file(source, target, opened_model, options, bar(source.name))
                results.append(dataclasses.asdict(report))
                console.print(f"{target}: {report.frames} frames, {report.fps:.1f} fps, sound {report.audio}", markup=False)
                for left_out in report.dropped:
                    console.print(f"{target}: without {left_out}", markup=False)
                if report.damage:
                    console.print(f"error: {source}: {report.damage}; what can be decoded is in {target}", markup=False)
            except CyclecastError as error:
                if not several:
                    raise
                results.append({"source": str(source), "error": str(error)})
                console.print(f"error: {error}", markup=False)
    if as_json:
        print_json({**facts, "files": results} if several else {**results[0], **facts})
    if any(result.get("error") or result.get("damage") for result in results):
        raise typer.Exit(1)


@app.command()
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
    chosen = load_config(RECIPES[recipe].Config, base=saved, file=config, settings=flagged | pairs(settings or []))
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


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    direction: Annotated[
        str | None, typer.Option(help="a2b or b2a; of a latent model, what it draws.  [default: its first]")
    ] = None,
    size: Annotated[str, typer.Option(help="dynamic, or WIDTHxHEIGHT to fix it.")] = "dynamic",
    opset: Annotated[int, typer.Option(help="18, 19 or 20.")] = 18,
    keep_colours: Annotated[float, typer.Option(min=0, max=1, help="0: the generator's colours; 1: the frame's own.")] = 0.0,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the file with PyTorch.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Freeze a trained generator into one ONNX file that takes and gives raw frames; needs the extra `train`.

    Example: cyclecast export runs/monet -o monet.onnx --direction b2a
    """
    with extra("train"):
        from cyclecast.export.checkpoints import read_generator
        from cyclecast.export.onnx import export_onnx
    trained = read_generator(checkpoint, direction)
    agreements = export_onnx(
        trained,
        output,
        size=parse_size(size),
        opset=opset,
        keep_colours=keep_colours,
        check=not no_verify,
        overwrite=overwrite,
    )
    if as_json:
        return print_json({"output": str(output), "verified": [dataclasses.asdict(a) for a in agreements]})
    table = Table("size", "frames", "max", "mean", "PSNR dB", title=f"{output} in ONNX Runtime against PyTorch, grey levels")
    for a in agreements:
        table.add_row(f"{a.size[0]}x{a.size[1]}", str(a.frames), str(a.max_abs), f"{a.mean_abs:.5f}", f"{a.psnr_db:.1f}")
    console.print(table if agreements else f"{output}: written, not verified")


@app.command()
def bench(
    model: ModelOption = "monet",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "1280x720",
    engine: Annotated[
        list[str] | None, typer.Option(help="auto, openvino or onnxruntime; repeatable. All that are here by default.")
    ] = None,
    device: DeviceOption = "auto",
    frames: Annotated[int, typer.Option(min=1, help="Frames to time on each engine, in each precision.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Time a model on this machine, frame in to frame out: each engine in its own choice of precision and in fp32.

    Example: cyclecast bench --model monet --size 1280x720
    """
    from cyclecast.runtime.bench import measure_engines
    from cyclecast.runtime.engine import check_size
    from cyclecast.video.sources.scene import Scene

    wanted = parse_size(size)
    if wanted is None:
        raise ConfigError(f"a size is WIDTHxHEIGHT, got {size!r}")
    check_size(*wanted, None)
    scene = Scene(*wanted)
    pictures = [scene.draw(index / 2) for index in range(8)]  # four seconds of it
    report = measure_engines(model, pictures, engine or (), device, frames, lambda line: console.print(line, markup=False))
    if as_json:
        return print_json(dataclasses.asdict(report))
    table = Table(title=f"{report.model}, {report.size}, {report.frames} frames; {report.machine}")
    table.add_column("engine", no_wrap=True)
    table.add_column("device", min_width=9)
    for name in ("p50 ms", "p95 ms", "p99 ms", "fps", "PSNR dB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        figures = (row.ms.p50, row.ms.p95, row.ms.p99, row.fps, row.psnr_db)
        table.add_row(f"{row.engine} {row.precision}", row.device, *(f"{figure:.1f}" for figure in figures))
    console.print(table)


@app.command()
def evaluate(
    subject: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, its checkpoint, or a frame model.")],
    data: Annotated[Path | None, typer.Option(help="As in `train`; default for a run: what it was trained on.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Of a frame model: measure its flicker on this video.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How much of the clip.")] = 4.0,
    side: Annotated[int, typer.Option(min=32, help="Of a frame model: pixels of the centre crops of the data.")] = 256,
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
        with opened(subject, engine, device, precision) as model:
            figures = measure_model(model, data, clip, seconds, side, inception, seed)
    if as_json:
        return print_json(figures)
    table = Table("direction", "figure", "value", title=subject)
    for direction, values in figures.items():
        for name, value in values.items():
            table.add_row(direction, name, f"{value:.5g}" if isinstance(value, float) else str(value))
    console.print(table)


@app.command()
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
        from cyclecast.training.reproduce.lab import Lab
    if experiment not in EXPERIMENTS:
        raise ConfigError(f"no experiment named {experiment!r}; there are: {', '.join(EXPERIMENTS)}")
    with bars(speed="steps/s") as bar:
        stages: dict[str, Callable[..., None]] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar(stage)
            stages[stage](done, total)

        page = EXPERIMENTS[experiment](data, Lab(out, seed, device, 0.2 if quick else 1.0, tell))
    if as_json:
        return print_json({"page": str(page), **json.loads((out / "results.json").read_text("utf-8"))})
    console.print(f"{page}: the experiment to look at", markup=False)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Print this one's card.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The bundled models, and their cards.

    Example: cyclecast models monet
    """
    from cyclecast.runtime.model import bundled_models, find_model

    bundled = bundled_models()
    if name is not None:
        card = find_model(name).with_suffix(".md")
        if name not in bundled or not card.is_file():
            raise ConfigError(f"no card for {name!r}; bundled are: {', '.join(bundled)}")
        text = card.read_text("utf-8")
        print_json({"name": name, "path": str(bundled[name]), "card": text}) if as_json else print(text, end="")
    elif as_json:
        print_json({"models": [{"name": key, "path": str(path), "bytes": path.stat().st_size} for key, path in bundled.items()]})
    else:
        for key, path in bundled.items():
            print(f"{key}  {path.stat().st_size / 1e6:.2f} MB  {path}")


@contextmanager
def opened(model: str, engine: str, device: str, precision: str) -> Iterator[Model]:
    """The model, open; what runs it is said on stderr, above all what `auto` chose."""
    with cyclecast.load(model, engine, device, precision) as loaded:
        facts = engine_facts(loaded)
        console.print(f"{loaded.name} on {facts['engine']} {facts['precision']}, {facts['device']}", markup=False)
        yield loaded


def engine_facts(model: Model) -> dict[str, str]:
    """What every report says of the engine."""
    return {"engine": model.engine.name, "device": model.engine.device, "precision": model.engine.precision}


def print_json(value: dict[str, Any]) -> None:
    """One object on stdout; what JSON has no number for, such as the PSNR of equal pictures, is null."""
    print(json.dumps(finite(value), allow_nan=False))


def finite(value: Any) -> Any:
    """The same nested value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def bars(speed: str = "fps") -> Iterator[Callable[[str], Callable[..., None]]]:
    """Progress bars on stderr, one for each name: count, rate, time left; they go when they are done."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[more]}", style="dim"),
    )
    others = int(os.environ.get("RANK", "0")) > 0  # of several processes, the first one tells
    with Progress(*columns, console=console, transient=True, disable=others) as progress:

        def bar(name: str) -> Callable[..., None]:
            task = progress.add_task(name, total=None, rate="", more="")

            def update(done: int, total: int | None, more: str = "") -> None:
                now = progress.tasks[task].speed
                progress.update(task, completed=done, total=total, rate=f"{now:.1f} {speed}" if now else "", more=more)

            return update

        yield bar


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that an extra brings; without it, the line to type."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cyclecast"):
            raise
        raise CyclecastError(f"{error.name} is not installed: pip install 'cyclecast[{name}]'") from error


def pairs(settings: list[str]) -> dict[str, str]:
    """key=value, each."""
    for setting in settings:
        if "=" not in setting:
            raise ConfigError(f"--set takes key=value, got {setting!r}")
    return {key.strip(): value.strip() for key, value in (setting.split("=", 1) for setting in settings)}


def parse_size(text: str) -> tuple[int, int] | None:
    """WIDTHxHEIGHT, or None for `dynamic`."""
    if text == "dynamic":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise ConfigError(f"a size is WIDTHxHEIGHT or dynamic, got {text!r}")
    return int(match[1]), int(match[2])
