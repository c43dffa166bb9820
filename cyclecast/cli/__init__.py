"""The `cyclecast` command. Each command parses its options, imports what it needs, calls one function and prints the result.

Messages for people go to stderr; `--json` prints one object to stdout.
"""

from __future__ import annotations

import functools
import inspect
import logging
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

import cyclecast
from cyclecast.cli.adopt import adopt
from cyclecast.cli.bench import bench
from cyclecast.cli.cameras import cameras
from cyclecast.cli.console import messages, print_fetches
from cyclecast.cli.convert import convert
from cyclecast.cli.demo import demo
from cyclecast.cli.doctor import doctor
from cyclecast.cli.engines import build, verify
from cyclecast.cli.export import export
from cyclecast.cli.live import live
from cyclecast.cli.models import models
from cyclecast.cli.preset_command import LiveCommand
from cyclecast.cli.quantize import quantize
from cyclecast.cli.share import share
from cyclecast.cli.stderr import discard_unwritten
from cyclecast.cli.style import style
from cyclecast.cli.train import evaluate, reproduce, train
from cyclecast.cli.ui import is_ui_installed, ui
from cyclecast.cli.web_app import web_app
from cyclecast.debug import VARIABLE, enable_debug_log, is_debug_requested
from cyclecast.errors import CyclecastError, Interrupted
from cyclecast.phrases import printable
from cyclecast.priority import lower_priority

INTERRUPTED = 130  # exit code after Ctrl-C, SIGTERM or SIGHUP
DEBUG_HELP = f"Print tracebacks and details to stderr. Same as {VARIABLE}=1."

log = logging.getLogger(__name__)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Restyle videos, photos and live cameras with a neural network, and train such networks.",
    epilog="`cyclecast COMMAND --help` shows the options of a command and an example. Start with: cyclecast demo",
)


def set_debug(enabled: bool) -> bool:
    """Turns the debug log on if `--debug` was typed."""
    if enabled:
        enable_debug_log()
    return enabled


DebugOption = Annotated[bool, typer.Option("--debug", callback=set_debug, is_eager=True, help=DEBUG_HELP)]


BackgroundOption = Annotated[
    bool,
    typer.Option(
        "--background",
        help="Run at a low priority, with all processes it starts, so that other programs get the cores first. "
        "Default: normal priority.",
    ),
]


def with_shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """Returns the same command with `--debug`, so that it is accepted after the command's name, too.

    Long-running commands also get `--background`.
    """

    @functools.wraps(function)
    def command(*args: Any, debug: bool = False, background: bool = False, **options: Any) -> None:
        if background:
            lower_priority()
        function(*args, **options)

    shared = {"background": BackgroundOption, "debug": DebugOption} if function in LONG_COMMANDS else {"debug": DebugOption}
    hints = get_type_hints(function, include_extras=True)
    parameters = [parameter.replace(annotation=hints[name]) for name, parameter in inspect.signature(function).parameters.items()]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in shared.items()
    ]
    command.__signature__ = inspect.Signature([*parameters, *added])  # type: ignore[attr-defined]
    command.__annotations__ = hints | shared
    return command


LONG_COMMANDS = (convert, live, ui, style, train, evaluate, reproduce)  # those that run beside other programs
# In the order of `--help`.
for command in (
    demo,
    convert,
    live,
    ui,
    cameras,
    style,
    train,
    evaluate,
    export,
    adopt,
    quantize,
    verify,
    build,
    bench,
    web_app,
    models,
    share,
    doctor,
    reproduce,
):
    app.command(cls=LiveCommand if command is live else None)(with_shared_options(command))


def main() -> None:
    """Runs the console script. A CyclecastError becomes one line and exit code 1; SIGTERM and SIGHUP clean up like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which `nohup` sets
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    if is_debug_requested():
        enable_debug_log()
    try:
        with print_fetches():
            app(["ui"] if is_ui_wanted() else None)
    except Interrupted as error:
        fail(str(error), INTERRUPTED, error)
    except CyclecastError as error:
        fail(str(error), 1, error)
    except ImportError as error:
        if "shared object" not in str(error):
            raise
        fail(f"{error}; on Debian and Ubuntu: apt install libgl1 libglib2.0-0", 1, error)  # opencv-python needs these
    except SystemExit as ended:  # typer turns Ctrl-C into this exit code and prints nothing
        if ended.code == INTERRUPTED:
            fail("interrupted", INTERRUPTED, ended)
        raise
    finally:
        discard_unwritten()


def is_ui_wanted() -> bool:
    """Returns whether a person typed nothing but `cyclecast`, and the page can be served. Scripts get the help."""
    is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return len(sys.argv) == 1 and is_terminal and is_ui_installed()


def fail(message: str, code: int, error: BaseException) -> None:
    """Prints one line to stderr and exits with `code`; the debug log shows the traceback of `error`."""
    log.debug("the command failed", exc_info=error)
    print(f"error: {printable(' '.join(message.split()))}", file=messages)
    sys.exit(code)


def print_version(requested: bool) -> None:
    """Prints the version and exits if `--version` was given."""
    if requested:
        print(f"cyclecast {cyclecast.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
    debug: DebugOption = False,
) -> None:
    """Options that stand before the name of a command."""
