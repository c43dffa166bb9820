"""What every recipe's run is told, and how a TOML file and `--set key=value` become it."""

from __future__ import annotations

import dataclasses
import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from cyclecast.errors import ConfigError, InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Config = TypeVar("Config", bound="TrainConfig")
FLAGS = {"out": "--out", "domain": "--data", "domain_a": "--data", "domain_b": "--data"}  # of settings that have their own


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop's own settings; each recipe's config adds its own."""

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Settings of other recipes that would mean nothing here, and why; checkpoints of older versions may hold them."""

    out: Path
    """Folder of the run: checkpoint, log, samples."""
    steps: int | None = None
    """Generator steps in all; None leaves it to the recipe."""
    batch_size: int = 1
    """Images of each domain in a step, in each process."""
    accumulate: int = 1
    """Parts that the batch is computed in, their gradients averaged: memory for time."""
    seed: int = 0
    """Of weights, batches and augmentation: the same seed gives the same run."""
    learning_rate: float = 2e-4
    """Of the optimizer, at the start."""
    schedule: Literal["linear", "cosine", "step", "constant"] = "linear"
    """linear: constant for the first half of the run, then down to 0; cosine: to 0; step: a tenth after each quarter."""
    beta1: float = 0.5
    """Adam's first momentum."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 autocast where the device computes it natively, fp32 elsewhere. fp16: on CUDA, its losses scaled."""
    compile: bool = False
    """Networks through torch.compile: the first steps take minutes."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """channels_last: the channels innermost. auto: that on a CPU from 64 pixels up, where it measured faster."""
    ema_decay: float = 0.999
    """Of the average of the generators' weights that is sampled and exported; 0: the weights themselves."""
    save_every: int = 250
    """Steps between checkpoints."""
    sample_every: int = 250
    """Steps between sheets of the fixed set."""
    log_every: int = 25
    """Steps that one line of the log averages."""
    tensorboard: bool = True
    """The losses for TensorBoard too, in the run's folder."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "save_every", "sample_every", "log_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("accumulate", self.batch_size % self.accumulate == 0, f"a divisor of batch_size, {self.batch_size}")
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
    values: dict[str, Any] = {key: value for key, value in (base or {}).items() if key not in kind.elsewhere}
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
        if key in kind.elsewhere:
            raise ConfigError(f"no setting named {key!r} here: {kind.elsewhere[key]}")
        if key not in known:
            raise ConfigError(f"no setting named {key!r}; there are: {', '.join(sorted(known))}")
    missing = [
        field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        how = dict.fromkeys(FLAGS.get(name, f"--set {name}=…") for name in missing)
        raise ConfigError(f"missing: {', '.join(missing)}; to be given by {', '.join(how)}")
    return kind(**{key: _parse(key, value, hints[key]) for key, value in values.items()})


def data_settings(kind: type[TrainConfig], data: Path | None) -> dict[str, Any]:
    """The settings behind `--data`, for the layouts of the field; InputError for a folder that is none of them.

    trainA, trainB (testA, testB: the fixed set); train, train_labels (val, val_labels): photos and label maps; train (val):
    pairs side by side. A recipe of one domain takes any folder or file as it is.
    """
    if data is None:
        return {}
    fields = {field.name for field in dataclasses.fields(kind)}
    if "domain" in fields:
        return {"domain": data}
    if not data.is_dir():
        what = "a file; name two of them by --domain-a and --domain-b" if data.is_file() else "no such folder"
        raise InputError(f"{data}: {what}")
    layouts = (("trainA", "trainB", "testA", "testB"), ("train", "train_labels", "val", "val_labels"))
    for train_a, train_b, samples_a, samples_b in layouts:
        if (data / train_a).is_dir() and (data / train_b).is_dir():
            watched = {"samples_a": data / samples_a, "samples_b": data / samples_b}
            there = {key: path if path.is_dir() else None for key, path in watched.items()}
            return {"domain_a": data / train_a, "domain_b": data / train_b, "layout": "folders", **there}
    if (data / "train").is_dir():
        watched_pairs = data / "val" if (data / "val").is_dir() else None
        both = {"domain_a": data / "train", "domain_b": data / "train", "samples_a": watched_pairs, "samples_b": watched_pairs}
        return {**both, "layout": "halves"}
    raise InputError(f"{data}: neither trainA and trainB in it, nor train with train_labels, nor train with pairs side by side")


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _parse(key: str, value: Any, hint: Any) -> Any:
    """`value` as a `hint`: from a TOML value or from the text of `--set key=value`."""
    if typing.get_origin(hint) is Literal:
        return next((choice for choice in typing.get_args(hint) if str(choice) == str(value)), value)
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None)]
    if value is None or (value in ("none", "") and len(kinds) < len(typing.get_args(hint))):
        return None
    kind = kinds[0]
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if (kind is int and isinstance(value, float) and not value.is_integer()) or (kind is Path and value == ""):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{key} must be of type {kind.__name__}, got {value!r}") from None
