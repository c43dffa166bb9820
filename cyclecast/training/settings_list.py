"""Lists the settings of a recipe from its dataclasses, with the docstrings that stand below their fields in the source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cyclecast.training.config import FLAGS, TrainConfig


@dataclasses.dataclass(frozen=True)
class SettingLine:
    """One setting, as `cyclecast train RECIPE --settings` prints it."""

    name: str
    type: str
    default: str | None
    """As it is typed after `--set`; None for a setting without a default."""
    meaning: str
    """The first sentence of its docstring."""

    def __str__(self) -> str:
        if self.default is None:
            return f"{self.name} ({self.type}, required: {FLAGS.get(self.name, f'--set {self.name}=…')}): {self.meaning}"
        return f"{self.name} = {self.default} ({self.type}): {self.meaning}"


def list_settings(config_class: type[TrainConfig]) -> list[SettingLine]:
    """Returns all settings of a recipe's config class that can be set, those of its groups in their place."""
    lines: list[SettingLine] = []
    for owner, field, hint in _fields(config_class):
        if field.name not in config_class.unavailable:
            default = _default(field, config_class.defaults)
            lines.append(SettingLine(field.name, type_name(hint), default, _docstrings(owner).get(field.name, "")))
    return lines


def _fields(config_class: type) -> list[tuple[type, dataclasses.Field[Any], Any]]:
    """Returns (dataclass, field, type) of each setting, with a group's fields in place of the group."""
    found: list[tuple[type, dataclasses.Field[Any], Any]] = []
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        found += _fields(hint) if dataclasses.is_dataclass(hint) else [(config_class, field, hint)]  # type: ignore[arg-type]
    return found


def _default(field: dataclasses.Field[Any], recipe_defaults: typing.Mapping[str, Any]) -> str | None:
    value = recipe_defaults.get(field.name, field.default)
    if value is dataclasses.MISSING:
        return None
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def type_name(hint: Any) -> str:
    """Returns a type as it is shown to users: `int`, `path or none`, `true|false`, or the choices."""
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if arguments := typing.get_args(hint):  # a union
        return " or ".join(type_name(each) for each in arguments)
    names = {bool: "true|false", str: "text", Path: "path", type(None): "none"}
    return names[hint] if hint in names else str(hint.__name__)


@cache
def _docstrings(owner: type) -> dict[str, str]:
    """Returns field -> first sentence of its docstring, of a dataclass and the classes that it derives from."""
    found: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for statement, below in zip(statements, statements[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and isinstance(below, ast.Expr):
                text = ast.literal_eval(below.value) if isinstance(below.value, ast.Constant) else ""
                found[statement.target.id] = first_sentence(str(text))
    return found


def first_sentence(text: str) -> str:
    """Returns the text up to its first full stop, in one line."""
    return re.split(r"(?<=[.!?])\s", " ".join(text.split()))[0]
