"""The settings of a run: dataclasses in groups; in TOML files, flags and checkpoints, flat `key=value` pairs."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from cyclecast.errors import ConfigError, InputError, MissingInputError
from cyclecast.training.data.digits import list_digit_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Config = TypeVar("Config", bound="TrainConfig")
Schedule = Literal["linear", "cosine", "step", "constant"]
FLAGS = {"out": "--out", "domain": "--data", "domain_a": "--data", "domain_b": "--data"}  # settings with a flag of their own
SHIPPED = Path(__file__).parent.parent / "models"  # folder of the settings that ship: of bundled models and of FastCUT
RENAMED = (("colour", "color"), ("regularis", "regulariz"), ("snow_", "whiten_"))  # earlier or British -> current spelling


def require(settings: object, name: str, holds: bool, expected: str) -> None:
    """Raises a ConfigError that names setting `name` of `settings`, unless `holds`."""
    if not holds:
        raise ConfigError(f"{name} must be {expected}, got {getattr(settings, name)}")


def require_weights(settings: object, *names: str) -> None:
    """Raises ConfigError unless each of these settings is a finite number from 0 up; without names, each `*_weight*`."""
    own = [field.name for field in dataclasses.fields(settings) if "_weight" in field.name]  # type: ignore[arg-type]
    for name in names or own:
        require(settings, name, 0 <= getattr(settings, name) < math.inf, "0 or more")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How the weights are updated."""

    batch_size: int = 1
    """Images of each domain in a step, in each process."""
    accumulate: int = 1
    """Computes the batch in this many parts and averages their gradients: less memory, more time."""
    learning_rate: float = 2e-4
    """Learning rate at the first step."""
    schedule: Schedule = "linear"
    """linear: constant for the first half of the run, then down to 0. cosine: down to 0. step: a tenth after each quarter."""
    beta1: float = 0.5
    """First momentum of Adam."""
    ema_decay: float = 0.999
    """Decay of the running average of the generators' weights, which is sampled and exported. 0: no averaging."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "accumulate", self.batch_size % self.accumulate == 0, f"a divisor of batch_size, {self.batch_size}")
        require(self, "learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        require(self, "beta1", 0 <= self.beta1 < 1, "from 0 to below 1")
        require(self, "ema_decay", 0 <= self.ema_decay < 1, "from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Where and in which arithmetic the run computes."""

    device: str = "auto"
    """auto (the best device present), cpu, cuda, cuda:N, mps or xpu."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 autocast where the device computes it natively, else fp32. fp16: CUDA only, with scaled losses."""
    compile: bool = False
    """Runs the networks through torch.compile: the first steps take minutes."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Memory layout of images and weights. auto: channels_last on a CPU for images of at least 64 pixels, where it is faster."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of every recipe; each recipe adds its own settings and groups. `load_config` builds all of them."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of this recipe that differ from those of the groups."""
    unavailable: ClassVar[Mapping[str, str]] = {}
    """Settings of other recipes that have no meaning here, and why. Checkpoints of older versions may contain them."""

    out: Path
    """Folder of the run: checkpoint, log, samples, page."""
    steps: int | None = None
    """Number of generator steps of the whole run. None: the recipe decides."""
    seed: int = 0
    """Seed of weights, batches and augmentation: the same seed gives the same run."""
    save_every: int = 250
    """Steps between two checkpoints."""
    sample_every: int = 250
    """Steps between two sample sheets; further ones are drawn by time, the first one within two minutes."""
    log_every: int = 25
    """Steps whose losses are averaged into one line of the log."""
    tensorboard: bool = True
    """Writes the losses for TensorBoard too, into the run's folder."""
    optim: OptimConfig = OptimConfig()
    compute: ComputeConfig = ComputeConfig()

    def __post_init__(self) -> None:
        for name in ("save_every", "sample_every", "log_every"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "seed", 0 <= self.seed < 2**32, "from 0 to 4294967295")
        require(self, "steps", self.steps is None or self.steps >= 1, "at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Returns flat key -> plain value, for a checkpoint. Paths are absolute, so that a run can be resumed from any folder."""
        flat: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            flat |= dataclasses.asdict(value) if dataclasses.is_dataclass(value) else {field.name: value}  # type: ignore[arg-type]
        return {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in flat.items()}


def current_name(name: str) -> str:
    """Returns the current name of a setting or a loss from an earlier name or its British spelling."""
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


@dataclass(frozen=True)
class Setting:
    """One flat key of a recipe's config."""

    group: str | None
    """The field of the config that holds the group with this setting; None: the config itself."""
    hint: Any
    """Its type."""
    required: bool
    """Whether it has no default."""


def settings_of(config_class: type[TrainConfig]) -> dict[str, Setting]:
    """Maps each flat key to where a config of this class holds it."""
    found: dict[str, Setting] = {}
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            inner = typing.get_type_hints(hint)
            found |= {f.name: Setting(field.name, inner[f.name], _has_no_default(f)) for f in dataclasses.fields(hint)}
        else:
            found[field.name] = Setting(None, hint, _has_no_default(field))
    return found


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def load_config(
    config_class: type[Config],
    *,
    base: Mapping[str, Any] | None = None,
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """Builds a config of this class from flat keys: a checkpoint's `base`, overridden by a TOML file, overridden by `settings`.

    Text is parsed by the setting's type; earlier names of settings are accepted everywhere. Raises InputError if the file
    cannot be read and ConfigError for an unknown key or a value that does not fit.
    """
    values = dict(config_class.defaults)
    values |= {current_name(key): value for key, value in (base or {}).items() if key not in config_class.unavailable}
    for source in (_read_toml(file) if file else {}, settings or {}):
        values |= {current_name(key): value for key, value in source.items()}
    known = settings_of(config_class)
    for key in values:
        if key in config_class.unavailable:
            raise ConfigError(f"no setting named {key!r} here: {config_class.unavailable[key]}")
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise ConfigError(f"no setting named {key!r}; {hint}`cyclecast train RECIPE --settings` lists all")
    missing = [name for name, setting in known.items() if setting.required and name not in values]
    if missing:
        flags = dict.fromkeys(FLAGS.get(name, f"--set {name}=…") for name in missing)
        raise ConfigError(f"missing: {', '.join(missing)}; set with {', '.join(flags)}")
    own: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {setting.group: {} for setting in known.values() if setting.group}
    for key, value in values.items():
        setting = known[key]
        (groups[setting.group] if setting.group else own)[key] = _parse(key, value, setting.hint)
    hints = typing.get_type_hints(config_class)
    return config_class(**own, **{name: hints[name](**inner) for name, inner in groups.items()})


def find_settings(path: Path) -> Path:
    """Returns the TOML file at `path` or, if there is none, the shipped one of that name, such as `monet-teacher`.

    Raises MissingInputError, which lists the shipped names, if there is neither.
    """
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.toml"))}
    name = str(path).removesuffix(".toml")
    if not path.is_file() and name in shipped:
        return shipped[name]
    if not path.exists():
        names = ", ".join(sorted(shipped))
        raise MissingInputError(f"{path}: no such file, and no shipped settings of that name; there are: {names}")
    return path


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error


def data_settings(config_class: type[TrainConfig], data: Path | None) -> dict[str, Any]:
    """Returns the settings that `--data` stands for. Raises InputError for a folder of no known layout.

    The layouts: trainA and trainB (testA and testB become the fixed set); train and train_labels (val and val_labels): photos
    and label maps; train (val): pairs side by side. A recipe with one domain accepts any folder or file.
    """
    if data is None:
        return {}
    if "domain" in settings_of(config_class):
        return {"domain": data}
    if not data.is_dir():
        reason = "is a file; pass two files with --domain-a and --domain-b" if data.is_file() else "no such folder"
        raise InputError(f"{data}: {reason}")
    layouts = (("trainA", "trainB", "testA", "testB"), ("train", "train_labels", "val", "val_labels"))
    for train_a, train_b, test_a, test_b in layouts:
        if (data / train_a).is_dir() and (data / train_b).is_dir():
            tests = {"samples_a": data / test_a, "samples_b": data / test_b}
            present = {key: path if path.is_dir() else None for key, path in tests.items()}
            return {"domain_a": data / train_a, "domain_b": data / train_b, "layout": "folders", **present}
    if (data / "train").is_dir():
        test = data / "val" if (data / "val").is_dir() else None
        both = {"domain_a": data / "train", "domain_b": data / "train", "samples_a": test, "samples_b": test}
        return {**both, "layout": "halves"}
    digits = list_digit_files(data)
    hint = f"; it holds {', '.join(file.name for file in digits)}: name two with --domain-a and --domain-b" if digits else ""
    raise InputError(
        f"{data}: neither trainA and trainB in it, nor train with train_labels, nor train with pairs side by side{hint}"
    )


def _parse(key: str, value: Any, hint: Any) -> Any:
    """Converts `value`, from TOML or the text of `--set key=value`, to the type `hint`."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        for choice in arguments:
            if str(choice) == str(value):
                return choice
        raise ConfigError(f"{key} must be one of {', '.join(map(str, arguments))}, got {value}")
    types = [each for each in (arguments or (hint,)) if each is not type(None)]
    if value is None or (value in ("none", "") and len(types) < len(arguments)):
        return None
    expected = types[0]
    try:
        if expected is bool:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if (expected is int and isinstance(value, float) and not value.is_integer()) or (expected is Path and value == ""):
            raise ValueError
        return expected(value)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{key} must be of type {expected.__name__}, got {value!r}") from None
