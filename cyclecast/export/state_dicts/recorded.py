"""Reads a state dict in which our own network recorded its settings."""

from __future__ import annotations

import logging
from typing import Any

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.state_dicts.find import StoredGenerator
from cyclecast.export.state_dicts.overrides import Overrides
from cyclecast.training.networks import SETTINGS_KEY, ImageGenerator, build_generator

log = logging.getLogger(__name__)


def read_recorded(stored: StoredGenerator, overrides: Overrides) -> tuple[ImageGenerator, dict[str, Any], Finding]:
    """Returns the network, its architecture, and how that was found.

    Raises ConfigError for an override that contradicts the record, and ModelError if this version cannot build the network.
    """
    architecture = stored.modules[""][SETTINGS_KEY]
    try:
        recorded = Overrides.from_architecture(architecture, overrides.key)
        network = build_generator(**architecture)
        network.load_state_dict({name: value.float() for name, value in stored.tensors.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        log.debug("the recorded settings do not fit", exc_info=True)
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"records settings of cyclecast that do not fit it ({reason}); expected a generator's state dict"
        ) from error
    wrong = [name for name in overrides.names() if getattr(overrides, name) != getattr(recorded, name)]
    if wrong:
        raise ConfigError(f"it records the settings of its network: leave {' and '.join(wrong)} out")
    return network, architecture, Finding("architecture", architecture["generator"], "its settings are recorded in the file")
