"""Everything cyclecast raises on purpose, as one tree.

    CyclecastError
    ├── InputError            a source, an image or a data folder is missing, unreadable or not what it says it is
    ├── OutputError           an output exists, cannot be written or cannot hold what it was given
    ├── ModelError            a file is no model that we can run, or no checkpoint that we can read
    ├── EngineError           an engine failed to open a model or to run a frame
    │   └── EngineUnavailable an engine or device was asked for and is not on this machine
    ├── ConfigError           a setting that does not exist or a value that does not fit
    ├── TrainingDiverged      a loss stopped being a number; the last good checkpoint is kept
    └── Interrupted           the user or the system asked us to stop; what was done is safe

Each message is one line: what was got, what was expected, what to do. The command line prints it and exits with code 1;
anything else that escapes is a bug and keeps its traceback.
"""


class CyclecastError(Exception):
    """The root: catch this to catch everything that cyclecast raises on purpose."""


class InputError(CyclecastError):
    """A source is missing, unreadable or not what its name says."""


class OutputError(CyclecastError):
    """An output exists already, cannot be written, or its container cannot hold the streams."""


class ModelError(CyclecastError):
    """A file is not a frame model, or not a checkpoint that can be read."""


class EngineError(CyclecastError):
    """An engine failed to open a model or to run a frame."""


class EngineUnavailable(EngineError):
    """An engine or device was asked for by name and is not on this machine; the message names what to install."""


class ConfigError(CyclecastError):
    """A setting is unknown or its value does not fit."""


class TrainingDiverged(CyclecastError):
    """A loss became NaN or infinite; training stopped and the last good checkpoint was kept."""


class Interrupted(CyclecastError):
    """Ctrl-C or SIGTERM; the message says what was saved and how to go on."""
