"""Whoever embeds cyclecast imports from `cyclecast` alone."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path

import pytest

import cyclecast
from cyclecast.errors import ConfigError, CyclecastError, MissingInputError, ModelError
from cyclecast.video.live.styling import stream as stream_module


def types_in(hint: object) -> set[type]:
    """Finds every cyclecast class that a type hint names, at any depth."""
    found = {hint} if isinstance(hint, type) and hint.__module__.startswith("cyclecast") else set()
    parts = [part for argument in typing.get_args(hint) for part in (argument if isinstance(argument, list) else [argument])]
    return found.union(*map(types_in, parts)) if parts else found


def named_by(value: object) -> set[type]:
    """Finds the cyclecast classes in the signature of a function, or in the fields, properties and methods of a class."""
    if not isinstance(value, type):
        return set().union(*map(types_in, typing.get_type_hints(value).values()))
    found = set()
    if dataclasses.is_dataclass(value) or getattr(value, "_is_protocol", False):
        found |= set().union(*map(types_in, typing.get_type_hints(value).values()))
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and not (name.startswith("_") and name != "__call__"):
            found |= set().union(*map(types_in, typing.get_type_hints(function).values()))
    return found


def test_every_type_that_a_public_signature_names_is_exported() -> None:
    public = {name: getattr(cyclecast, name) for name in cyclecast.__all__ if name != "__version__"}
    exported = {value for value in public.values() if isinstance(value, type)}
    functions = [value for value in public.values() if inspect.isfunction(value)]
    assert {function.__name__ for function in functions} == {"convert", "load", "open_engine", "stream"}
    for value in (*functions, *exported):
        missing = {named.__name__ for named in named_by(value) if named not in exported}
        assert not missing, f"{value}: {missing}"


def test_every_error_is_exported() -> None:
    from cyclecast import errors

    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, CyclecastError)}
    assert tree <= set(cyclecast.__all__) <= set(dir(cyclecast))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cyclecast.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("source", "model", "error", "message"),
    [
        ("browser", "monet", ConfigError, "--sink web"),
        ("no-such.mp4", "monet", MissingInputError, "no-such.mp4: no such file"),
        ("pattern://320x240@30", "manet", ModelError, "no bundled model of that name"),
    ],
)
def test_stream_checks_its_arguments_at_the_call(source: str, model: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cyclecast.stream(source, model)


def test_stream_rejects_a_target_rate_for_an_open_model() -> None:
    with cyclecast.load("monet") as model, pytest.raises(ConfigError, match="name or path"):
        cyclecast.stream("pattern://320x240@30", model, options=cyclecast.LiveOptions(target_fps=10))


def test_a_stream_that_is_never_read_releases_its_source(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = stream_module.Stream.close

    def record(self: stream_module.Stream, *args: bool) -> None:
        closed.append(self)
        close(self, *args)

    monkeypatch.setattr(stream_module.Stream, "close", record)
    with cyclecast.stream("pattern://64x48@30", tiny_model) as frames:
        assert not closed
    assert len(closed) == 1 and next(frames, None) is None
    cyclecast.stream("pattern://64x48@30", tiny_model)  # dropped at once
    assert len(closed) == 2
