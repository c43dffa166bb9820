"""Every error that cyclecast raises on purpose, as one tree. Where Python has a matching exception, the error is that, too.

    CyclecastError
    ├── InputError                   a source, an image or a data folder is unreadable or not what it should be
    │   ├── MissingInputError        it does not exist; also a FileNotFoundError
    │   └── InputPermissionError     this user may not read it; also a PermissionError
    ├── OutputError                  an output cannot be written, or cannot hold the streams
    │   ├── OutputExistsError        it exists and overwriting was not allowed; also a FileExistsError
    │   └── OutputPermissionError    this user may not write it; also a PermissionError
    ├── ModelError                   a file is not a model that cyclecast can run, or not a readable checkpoint
    │   ├── MissingModelError        it does not exist; also a FileNotFoundError
    │   └── FetchError               it cannot be fetched from its address, or has changed there; also a ConnectionError
    ├── EngineError                  an engine failed to open a model or to run a frame
    │   └── EngineUnavailable        an engine or a device was requested by name and is not on this machine
    │       └── EngineNotInstalled   its Python package is not installed; also a ModuleNotFoundError
    ├── MissingExtraError            an optional dependency is not installed; also a ModuleNotFoundError
    ├── ConfigError                  a setting does not exist or has an invalid value; also a ValueError
    ├── TrainingDiverged             a loss became NaN or infinite; also a FloatingPointError
    └── Interrupted                  Ctrl-C or SIGTERM; finished work is saved

Each message is one line: what was found, what was expected, what to do. The command line prints it and exits with code 1. Any
other exception that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class CyclecastError(Exception):
    """The base class: catch it to catch every error that cyclecast raises on purpose."""


class InputError(CyclecastError):
    """A source is missing, unreadable or not what its name says."""


class MissingInputError(InputError, FileNotFoundError):
    """A source does not exist."""


class InputPermissionError(InputError, PermissionError):
    """This user may not read a source."""


class OutputError(CyclecastError):
    """An output exists already, cannot be written, or its container cannot hold the streams."""


class OutputExistsError(OutputError, FileExistsError):
    """An output exists already, and overwriting was not allowed."""


class OutputPermissionError(OutputError, PermissionError):
    """This user may not write an output."""


class ModelError(CyclecastError):
    """A file is not a frame model, or not a checkpoint that can be read."""


class MissingModelError(ModelError, FileNotFoundError):
    """A model or a checkpoint does not exist."""


class FetchError(ModelError, ConnectionError):
    """A model cannot be fetched from its address, or is another one than the first time."""


class EngineError(CyclecastError):
    """An engine failed to open a model or to run a frame."""


class EngineUnavailable(EngineError):
    """An engine or a device was requested by name and is not on this machine; the message says what to install."""


class EngineNotInstalled(EngineUnavailable, ModuleNotFoundError):
    """The Python package of an engine is not installed; the message is the line to type."""


class MissingExtraError(CyclecastError, ModuleNotFoundError):
    """An optional dependency is not installed; the message is the line to type."""


class ConfigError(CyclecastError, ValueError):
    """A setting is unknown or has an invalid value."""


class TrainingDiverged(CyclecastError, FloatingPointError):
    """A loss became NaN or infinite; training stopped and kept the last good checkpoint."""


class Interrupted(CyclecastError):
    """Ctrl-C or SIGTERM; the message says what was saved and how to resume."""
