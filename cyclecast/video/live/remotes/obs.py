"""Sets the audio sync offset in OBS to the measured latency, so that sound and styled video stay together."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from cyclecast.errors import ConfigError
from cyclecast.phrases import printable
from cyclecast.video.live.capture.client import RETRY_DELAYS_S
from cyclecast.video.live.remotes.obs_client import (
    NOT_FOUND,
    PASSWORD_VARIABLE,
    ObsClient,
    ObsError,
    RequestFailed,
    connect_to_obs,
)
from cyclecast.video.live.remotes.remote import RemoteOpener
from cyclecast.video.live.sinks.sink import SessionControls

DEFAULT_PORT = 4455
MAX_OFFSET_MS = 20_000  # that OBS accepts
TOLERANCE_MS = 10  # by which the latency may change before the offset follows
SETTLE_S = 1.0  # after the first frame, until when the latency is not measured well
POLL_S = 0.25
MISSING_RETRY_S = 10.0  # between two looks for an input that OBS does not have
CLOSE_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


def obs_opener(address: str, inputs: Sequence[str]) -> RemoteOpener:
    """Returns the opener of an `AudioSync`. address: ws://[PASSWORD@]HOST[:PORT]. inputs: names; none: OBS's first microphone.

    A password that the address lacks may be in the environment. Raises ConfigError, without the password, for other addresses.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in ("ws", "wss") or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"--obs: expected ws://HOST:{DEFAULT_PORT}, and the password in {PASSWORD_VARIABLE}")
    password = unquote(parts.password or parts.username or "") or os.environ.get(PASSWORD_VARIABLE) or None
    url = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return partial(AudioSync, url, password, list(inputs))


class AudioSync:
    """Follows the latency of a run with the offsets of audio inputs, and sets the previous ones again at the end.

    Nothing about the connection ends the run: what is wrong is reported once, and it is tried again.
    """

    def __init__(self, url: str, password: str | None, inputs: list[str], controls: SessionControls) -> None:
        self._url, self._password, self._inputs, self._controls = url, password, inputs, controls
        self._previous: dict[str, int] = {}  # the offset of each input in ms, before this run
        self._offsets: dict[str, int | None] = {}  # what each was set to over this connection
        self._look_again = 0.0  # when to look for inputs again, as `time.monotonic()`
        self._reported: set[str] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="obs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sets the previous offsets again, and disconnects."""
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        """Runs in the thread: connects again whenever the connection is lost."""
        attempt = 0
        while not self._closing.is_set():
            try:
                with connect_to_obs(self._url, self._password) as client:
                    attempt = 0
                    self._reported.clear()
                    self._controls.report(f"OBS: connected to {self._url}")
                    self._follow(client)
                    self._restore(client)
            except ObsError as error:
                log.debug("the connection to OBS failed", exc_info=True)
                self._report_once(f"OBS at {self._url}: {error}; trying again")
            except Exception:  # of the library; it must not end the thread without a word
                log.exception("the connection to OBS failed")
                self._report_once(f"OBS at {self._url}: an internal error, which the debug log shows; trying again")
            self._closing.wait(RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) - 1)])
            attempt += 1
        if self._previous:
            self._restore_once_more()

    def _follow(self, client: ObsClient) -> None:
        """Sets the offsets whenever the latency has changed, until the run ends."""
        self._offsets, self._look_again = {}, 0.0
        while not self._closing.is_set():
            if time.monotonic() >= self._look_again:
                is_complete = self._find_inputs(client)
                self._look_again = float("inf") if is_complete else time.monotonic() + MISSING_RETRY_S
            measured = self._measured_offset()
            for name, offset in list(self._offsets.items()):
                if measured is not None and (offset is None or abs(measured - offset) > TOLERANCE_MS):
                    self._set_offset(client, name, measured)
            client.wait(POLL_S)

    def _set_offset(self, client: ObsClient, name: str, offset: int) -> None:
        try:
            client.request("SetInputAudioSyncOffset", inputName=name, inputAudioSyncOffset=offset)
        except RequestFailed:  # the input was removed or renamed
            log.debug("the offset of %s cannot be set", name, exc_info=True)
            del self._offsets[name]
            self._look_again = 0.0
            return
        self._offsets[name] = offset
        before = self._previous[name]
        self._report_once(f"OBS: the audio of {printable(name)} is delayed by {offset} ms (before: {before} ms)", name)

    def _measured_offset(self) -> int | None:
        """Returns the latency in ms; None if it is not known now."""
        meter = self._controls.meter
        latency = meter.recent().latency_ms
        if meter.elapsed < SETTLE_S or self._controls.feed.outage is not None or latency <= 0:
            return None
        return min(round(latency), MAX_OFFSET_MS)

    def _find_inputs(self, client: ObsClient) -> bool:
        """Reads the offset that each input has. Returns whether OBS has them all."""
        names, is_complete = self._inputs, True
        if not names:
            microphone = client.request("GetSpecialInputs").get("mic1")
            if microphone is None:
                self._report_once("OBS: there is no microphone in its settings; name an input: --obs-audio NAME")
                return False
            names = [str(microphone)]
        for name in names:
            try:
                answer = client.request("GetInputAudioSyncOffset", inputName=name)
            except RequestFailed as error:
                self._report_missing(client, name, error)
                is_complete = False
            else:
                self._previous.setdefault(name, number_of(answer, "inputAudioSyncOffset"))
                self._offsets.setdefault(name, None)
        return is_complete

    def _report_missing(self, client: ObsClient, name: str, error: RequestFailed) -> None:
        if error.code != NOT_FOUND:
            return self._report_once(f"OBS: {printable(name)}: {error}")
        inputs = client.request("GetInputList").get("inputs", [])
        names = ", ".join(printable(str(each.get("inputName"))) for each in inputs)
        return self._report_once(f"OBS: there is no input {printable(name)}; there are: {names}")

    def _restore(self, client: ObsClient) -> None:
        """Sets the offsets that the inputs had before."""
        for name, offset in list(self._previous.items()):
            try:
                client.request("SetInputAudioSyncOffset", inputName=name, inputAudioSyncOffset=offset)
            except RequestFailed:
                log.debug("the input %s is gone", name, exc_info=True)
            del self._previous[name]

    def _restore_once_more(self) -> None:
        """Connects to set the previous offsets, at the end of a run that has no connection."""
        try:
            with connect_to_obs(self._url, self._password) as client:
                self._restore(client)
        except ObsError as error:
            left = ", ".join(f"{printable(name)}: {offset} ms" for name, offset in self._previous.items())
            self._controls.report(f"OBS at {self._url}: {error}; set the audio sync offset there yourself ({left})")

    def _report_once(self, line: str, topic: str | None = None) -> None:
        if (topic or line) not in self._reported:
            self._reported.add(topic or line)
            self._controls.report(line)


def number_of(answer: dict[str, Any], key: str) -> int:
    """Returns a number of an answer. Raises ObsError if it is none."""
    value = answer.get(key)
    if not isinstance(value, int | float):
        raise ObsError("the server there does not speak obs-websocket 5")
    return round(value)
