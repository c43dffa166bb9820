"""The tree of errors: each is also Python's own exception of that type, and survives what programs do with exceptions."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import cyclecast
from cyclecast import errors
from cyclecast.errors import CyclecastError
from cyclecast.files import atomic_write, check_output, read_error, write_error
from cyclecast.video.files.images import read_image

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, CyclecastError)]
BUILTINS = {
    "MissingInputError": FileNotFoundError,
    "InputPermissionError": PermissionError,
    "OutputExistsError": FileExistsError,
    "OutputPermissionError": PermissionError,
    "MissingModelError": FileNotFoundError,
    "FetchError": ConnectionError,
    "EngineNotInstalled": ModuleNotFoundError,
    "MissingExtraError": ModuleNotFoundError,
    "ConfigError": ValueError,
    "TrainingDiverged": FloatingPointError,
}


@pytest.mark.parametrize("error_class", TREE, ids=lambda error_class: error_class.__name__)
def test_an_error_keeps_its_message_when_it_is_copied_and_named_anew(error_class: type[CyclecastError]) -> None:
    error = error_class("in.mp4: no such file")
    assert str(error) == "in.mp4: no such file"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (error_class, str(error))
    assert str(type(error)(f"batch: {error}")) == "batch: in.mp4: no such file"
    builtin = BUILTINS.get(error_class.__name__)
    assert builtin is None or issubclass(error_class, builtin)
    assert errors.__doc__ is not None and error_class.__name__ in errors.__doc__


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        cyclecast.load(tmp_path / "none.onnx")
    with pytest.raises(FileNotFoundError, match="none.png: no such file"):
        read_image(tmp_path / "none.png")
    with cyclecast.load("monet") as model, pytest.raises(FileNotFoundError, match="none.mp4: no such file"):
        cyclecast.convert(tmp_path / "none.mp4", tmp_path / "out.mp4", model)


def test_an_output_that_exists_is_a_file_exists_error(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").touch()
    with pytest.raises(FileExistsError, match="out.mp4: exists already; --overwrite replaces it"):
        check_output(tmp_path / "out.mp4")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "out.mp4"):
        pass


def test_a_setting_that_does_not_fit_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        cyclecast.LiveOptions(work_height=3)


def test_the_systems_errors_become_the_fitting_error_of_ours() -> None:
    missing = read_error(FileNotFoundError(2, "No such file or directory"), "a.png")
    assert isinstance(missing, FileNotFoundError) and str(missing) == "a.png: no such file or folder"
    closed = read_error(PermissionError(13, "Permission denied"), "a.png")
    assert isinstance(closed, PermissionError) and str(closed) == "a.png: cannot be read (Permission denied)"
    full = write_error(OSError(28, "No space left on device"), "b.mp4")
    assert type(full) is errors.OutputError and str(full) == "b.mp4: cannot be written (No space left on device)"
    assert isinstance(write_error(PermissionError(13, "Permission denied")), PermissionError)
