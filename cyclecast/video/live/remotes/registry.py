"""The remotes of a run by the options of `cyclecast live`."""

from __future__ import annotations

from collections.abc import Sequence

from cyclecast.errors import ConfigError
from cyclecast.video.live.remotes.remote import RemoteOpener


def remote_openers(osc: str | None = None, obs: str | None = None, obs_audio: Sequence[str] = ()) -> list[RemoteOpener]:
    """Returns what opens the remotes that have an address. obs_audio: names of inputs in OBS.

    Raises ConfigError for an invalid address, and MissingExtraError if a library is missing.
    """
    if obs_audio and obs is None:
        raise ConfigError("--obs-audio needs --obs ws://HOST:4455")
    openers: list[RemoteOpener] = []
    if osc is not None:
        from cyclecast.video.live.remotes.osc import osc_opener

        openers.append(osc_opener(osc))
    if obs is not None:
        from cyclecast.video.live.remotes.obs import obs_opener

        openers.append(obs_opener(obs, obs_audio))
    return openers
