"""What every recipe's run is told, and how a TOML file and `--set key=value` become it."""

from __future__ import annotations

import dataclasses
import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cyclecast.errors import ConfigError, InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Config = TypeVar("Config", bound="TrainConfig")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop's own settings; each recipe's config adds its own."""

    out: Path
    """Folder of the run: checkpoint, log, samples."""
    steps: int | None = None
    """Generator steps in all; None leaves it to the recipe."""
    batch_size: int = 1
    """Images of each domain in a step."""
    seed: int = 0
    """Of weights, batches and augmentation: the same seed gives the same run."""
    learning_rate: float = 2e-4
    """Of Adam, constant for the first half of the run, then linearly to 0."""
    beta1: float = 0.5
    """Adam's first momentum."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the device computes it natively, fp32 elsewhere."""
    ema_decay: float = 0.999
    """Of the average of the generators' weights that is sampled and exported; 0: the weights themselves."""
    save_every: int = 250
    """Steps between checkpoints."""
    sample_every: int = 250
    """Steps between sheets of the fixed set."""
    log_every: int = 25
    """Steps that one line of the log averages."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "save_every", "sample_every", "log_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("seed", 0 <= self.seed < 2**32, "from 0 to 4294967295")
        self._require("steps", self.steps is None or self.steps >= 1, "at least 1")
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        self._require("beta1", 0 <= self.beta1 < 1, "from 0 to below 1")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "from 0 to below 1")
        for field in dataclasses.fields(self):
            choices = _choices(typing.get_type_hints(type(self))[field.name])
            value = getattr(self, field.name)
            if choices and value not in choices:
                raise ConfigError(f"{field.name} must be one of {', '.join(map(str, choices))}, got {value}")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for a checkpoint; paths absolute, so that a run can go on from any folder."""
        return {
            key: str(value.resolve()) if isinstance(value, Path) else value for key, value in dataclasses.asdict(self).items()
        }


def load_config(
    kind: type[Config],
    *,
    base: Mapping[str, Any] | None = None,
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """A config of `kind`: `base` (a checkpoint's), over it a TOML file, over that `settings`; text is parsed by field type.

    InputError if the file cannot be read, ConfigError for an unknown key or a value that does not fit.
    """
    values: dict[str, Any] = dict(base or {})
    if file is not None:
        try:
            values.update(tomllib.loads(file.read_text("utf-8")))
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: no valid TOML: {error}") from error
    values.update(settings or {})
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(f"no setting named {key!r}; there are: {', '.join(sorted(known))}")
    missing = [
        field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}")
    return kind(**{key: _parse(key, value, hints[key]) for key, value in values.items()})


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _parse(key: str, value: Any, hint: Any) -> Any:
    """`value` as a `hint`: from a TOML value or from the text of `--set key=value`."""
    if typing.get_origin(hint) is Literal:
        return value
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None)]
    if value is None or (value in ("none", "") and len(kinds) < len(typing.get_args(hint))):
        return None
    kind = kinds[0]
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{key} must be of type {kind.__name__}, got {value!r}") from None
