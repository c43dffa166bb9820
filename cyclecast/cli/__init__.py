"""The command line: parse, import inside, call one function, print. People read stderr, scripts read `--json` on stdout."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

import cyclecast
from cyclecast.cli.convert import convert
from cyclecast.cli.demo import demo
from cyclecast.cli.doctor import doctor
from cyclecast.cli.engines import bench, build, verify
from cyclecast.cli.export import adopt, export, models
from cyclecast.cli.live import live
from cyclecast.cli.train import evaluate, reproduce, train
from cyclecast.errors import CyclecastError, Interrupted

INTERRUPTED = 130  # exit code after Ctrl-C or SIGTERM

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From training a CycleGAN-type generator to live video.",
)
for command in (
    demo,
    convert,
    live,
    train,
    export,
    adopt,
    build,
    verify,
    bench,
    evaluate,
    reproduce,
    models,
    doctor,
):  # the order of `--help`
    app.command()(command)


def main() -> None:
    """The console script: our own errors become one line and exit code 1; SIGTERM cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except Interrupted as error:
        fail(str(error), code=INTERRUPTED)
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
