"""Models by address: `hf:user/name`, `https://…` and `file://…` are fetched once, checked, and kept in the user's cache."""

from cyclecast.runtime.remote.address import is_remote
from cyclecast.runtime.remote.fetch import fetch_model
from cyclecast.runtime.remote.inspection import inspect_model

__all__ = ["fetch_model", "inspect_model", "is_remote"]
