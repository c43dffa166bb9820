"""Presets of `live`: a TOML file with its source, models, sinks and options, such as `steady = 0.7`.

Each key is an option without its dashes, or `source`. What is typed beside a preset wins, and so does the environment. Relative
paths are relative to the preset's folder, so a folder with a preset and its files can be moved.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import tomli_w
import typer

from cyclecast.errors import ConfigError
from cyclecast.files import atomic_write, check_output, read_error
from cyclecast.runtime.model import bundled_models
from cyclecast.video.live.sinks.registry import SINKS, sink_type
from cyclecast.video.live.sinks.sink import sink_name
from cyclecast.video.live.sources.address import LOCAL_SCHEMES, host_address, is_camera, source_type, url_scheme

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOT_IN_PRESETS = ("preset", "save-preset", "save-secrets", "overwrite", "json", "debug", "help")  # each is typed for one run
LOCAL_SINKS = ("virtual", "web", "file", "hls")  # whose addresses are no secrets, except for a token
SCHEME = re.compile(r"\w{2,}:")  # of an address; a single letter is a drive
TYPED = ("COMMANDLINE", "ENVIRONMENT")  # names of click's ParameterSource
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list of texts"}

Value = bool | int | float | str | list[str]


def apply_preset(ctx: typer.Context, path: Path) -> None:
    """Sets each option that the preset names and nobody typed.

    Raises InputError if the file cannot be read, ConfigError for damaged files, unknown keys and invalid values.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise read_error(error, path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a preset in TOML ({error})") from error
    options = {_key(option): option for option in ctx.command.params}
    known = [key for key in options if key not in NOT_IN_PRESETS]
    is_source_typed = any(_is_typed(ctx, name) for name in ("source", "source_file"))
    for name, value in values.items():
        key = name.replace("_", "-")
        if key in NOT_IN_PRESETS:
            raise ConfigError(f"{path}: {name}: a preset cannot set this; type --{key}")
        if key not in known:
            raise ConfigError(f"{path}: {name}: no such option; expected one of {', '.join(known)}")
        option = options[key]
        checked = _check_type(value, _type_of(ctx, option), f"{path}: {name}")
        if _is_typed(ctx, option.name) or (is_source_typed and key in ("source", "source-file")):
            continue
        try:
            value = option.process_value(ctx, _map_paths(key, checked, ctx, option, lambda text: str(path.parent / text)))
        except typer.BadParameter as error:
            raise ConfigError(f"{path}: {name}: {value!r}: {error.message}") from error
        ctx.params[option.name] = value


def save_preset(ctx: typer.Context, path: Path) -> None:
    """Writes all options that differ from their defaults, except what the environment sets.

    Addresses that may hold a password, a token or a stream key are refused unless `--save-secrets` is typed; then only this
    user can read the file. Raises ConfigError or OutputError.
    """
    check_output(path, ctx.params["overwrite"])
    folder = Path(os.path.abspath(path)).parent

    def shown(text: str) -> str:
        absolute = Path(os.path.abspath(text))
        return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)

    values: dict[str, Value] = {}
    for option in ctx.command.params:
        key, value = _key(option), ctx.params.get(option.name)
        is_default = value is None or value == option.get_default(ctx) or value in ((), [])
        if key in NOT_IN_PRESETS or is_default or _source_name(ctx, option.name) == "ENVIRONMENT":
            continue
        plain = [str(each) for each in value] if isinstance(value, list | tuple) else value
        plain = str(plain) if isinstance(plain, Path) else plain
        for text in filter(
            may_hold_secret if key != "model" else has_credentials, plain if isinstance(plain, list) else [str(plain)]
        ):
            if not ctx.params["save_secrets"]:
                raise ConfigError(
                    f"{path}: {key}: {host_address(text).partition('?')[0]} may hold a password, a token or a stream key, so it "
                    "is not saved; --save-secrets saves it, in a file that only you can read"
                )
        values[key] = _map_paths(key, plain, ctx, option, shown)
    with atomic_write(path, ctx.params["overwrite"]) as partial:
        if ctx.params["save_secrets"]:
            partial.chmod(0o600)
        partial.write_text(tomli_w.dumps(values), "utf-8")


def may_hold_secret(value: str) -> bool:
    """Returns whether an option's value is an address with more than a host, or one with a token."""
    name = sink_name(value)
    if "token=" in value:  # of a web page, or of WHIP
        return True
    if value.partition("#")[2] and name in SINKS:
        value = value.partition("#")[0]  # the other settings of a network output are no secrets
    return "://" in value and name not in (*LOCAL_SINKS, *LOCAL_SCHEMES) and host_address(value) != value


def has_credentials(value: str) -> bool:
    """Returns whether a model's address has a user, a password or parameters; its path is no secret."""
    place = value.partition("://")[2].partition("#")[0]
    return "?" in place or "@" in place.partition("/")[0]


def _key(option: Any) -> str:
    """Returns the key of an option: its longest name, without dashes."""
    return str(max(option.opts, key=len)).lstrip("-").replace("_", "-")


def _source_name(ctx: typer.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "" if source is None else source.name


def _is_typed(ctx: typer.Context, name: str) -> bool:
    return _source_name(ctx, name) in TYPED


def _type_of(ctx: typer.Context, option: Any) -> type:
    """Returns bool, int, float, str, list or Path: what the command's signature says, without None."""
    hint = get_type_hints(ctx.command.callback)[option.name]
    hint = next((each for each in get_args(hint) if each is not NoneType), hint) if get_origin(hint) is not list else hint
    found: type = get_origin(hint) or hint
    return found


def _check_type(value: object, expected: type, where: str) -> Value:
    """Returns the value if TOML's type is the option's. Raises ConfigError."""
    expected = str if expected is Path else expected
    types = (int, float) if expected is float else expected
    is_right = isinstance(value, types) and isinstance(value, bool) == (expected is bool)
    if is_right and isinstance(value, list):
        is_right = all(isinstance(each, str) for each in value)
    if not is_right:
        shown = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)[:80]
        raise ConfigError(f"{where}: expected {NAMES[expected]}, got {shown}")
    return value  # type: ignore[return-value]


def _map_paths(key: str, value: Any, ctx: typer.Context, option: Any, convert: Callable[[str], str]) -> Any:
    """Returns the value with `convert` applied to each path in it: files of sources, models and recordings, and path options."""
    if isinstance(value, list):
        return [_map_paths(key, each, ctx, option, convert) for each in value]
    if not isinstance(value, str):
        return value
    if key == "source":
        is_path = is_source_path(value, convert)
    elif key == "model":
        is_path = value not in bundled_models() and not SCHEME.match(value)
    elif key in ("sink", "record-source"):
        if sink_name(value) == "web":
            return _map_certificates(value, convert)
        if value.startswith("hls://"):  # a folder
            return f"hls://{convert(value[len('hls://') :])}"
        is_path = not url_scheme(value) and sink_type(value) in ("file", "hls")
    else:
        is_path = _type_of(ctx, option) is Path
    return convert(value) if is_path else value


def is_source_path(value: str, convert: Callable[[str], str]) -> bool:
    """Returns whether a source is a path and not a camera, a camera's name or an address: it names a file here or there."""
    if url_scheme(value) or is_camera(value) or value in ("-", "screen", "browser"):
        return False
    return source_type(value) == "file" or os.path.lexists(convert(value))


def _map_certificates(address: str, convert: Callable[[str], str]) -> str:
    """Returns the address of a web page with `convert` applied to its ?cert= and ?key=."""
    place, mark, query = address.partition("?")
    parts = (part.partition("=") for part in query.split("&"))
    return (
        place + mark + "&".join(f"{name}{sign}{convert(text) if name in ('cert', 'key') else text}" for name, sign, text in parts)
    )
