"""A client of obs-websocket, protocol 5, which OBS has from version 28 on: JSON in WebSocket messages.

The protocol: https://github.com/obsproject/obs-websocket/blob/master/docs/generated/protocol.md
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from cyclecast.errors import MissingExtraError
from cyclecast.phrases import printable

try:
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException
    from websockets.sync.client import ClientConnection, connect
    from websockets.typing import Subprotocol
except ModuleNotFoundError as error:
    raise MissingExtraError("OBS needs websockets: pip install 'cyclecast[obs]'") from error

TIMEOUT_S = 3.0  # for a connection, and for an answer
RPC_VERSION = 1
HELLO, IDENTIFY, IDENTIFIED, REQUEST, RESPONSE = 0, 1, 2, 6, 7  # the types of messages that are used here
NO_EVENTS = 0
AUTHENTICATION_FAILED, UNSUPPORTED_VERSION = 4009, 4010  # close codes
NOT_FOUND = 600  # status of a request
PASSWORD_VARIABLE = "CYCLECAST_OBS_PASSWORD"


class ObsError(Exception):
    """OBS cannot be reached, or does not answer as documented; the message is one line."""


class RequestFailed(ObsError):
    """OBS has refused one request; the connection is intact."""

    def __init__(self, name: str, code: int, comment: str) -> None:
        super().__init__(f"{name} failed with status {code}{comment and f' ({comment})'}")
        self.code = code


class ObsClient:
    """An identified connection, for one thread. All methods raise ObsError when the connection is lost."""

    def __init__(self, connection: ClientConnection, password: str | None) -> None:
        self._connection, self._ids = connection, count(1)
        hello = self._receive(HELLO)
        identify: dict[str, Any] = {"rpcVersion": RPC_VERSION, "eventSubscriptions": NO_EVENTS}
        challenge = hello.get("authentication")
        if challenge is not None:
            if password is None:
                raise ObsError(f"it asks for a password; set {PASSWORD_VARIABLE}")
            with documented_answer():
                identify["authentication"] = authentication(password, challenge["salt"], challenge["challenge"])
        self._send(IDENTIFY, identify)
        self._receive(IDENTIFIED)

    def request(self, name: str, **data: Any) -> dict[str, Any]:
        """Sends a request and returns the data of its response. Raises RequestFailed if OBS refuses it."""
        id = str(next(self._ids))
        self._send(REQUEST, {"requestType": name, "requestId": id, "requestData": data})
        while True:
            response = self._receive(RESPONSE)
            if response.get("requestId") == id:
                break
        with documented_answer():
            status = response["requestStatus"]
            if not status["result"]:
                raise RequestFailed(name, int(status["code"]), printable(str(status.get("comment") or ""))[:200])
            return dict(response.get("responseData") or {})

    def wait(self, seconds: float) -> None:
        """Waits. Raises ObsError as soon as the connection is lost."""
        with lost_connection(), suppress(TimeoutError):
            self._connection.recv(timeout=seconds)

    def _send(self, type: int, data: dict[str, Any]) -> None:
        with lost_connection():
            self._connection.send(json.dumps({"op": type, "d": data}))

    def _receive(self, type: int) -> dict[str, Any]:
        """Returns the data of the next message of this type, and ignores others."""
        while True:
            with lost_connection():
                text = self._connection.recv(timeout=TIMEOUT_S)
            with documented_answer():
                message = json.loads(text)
                if message["op"] == type:
                    return dict(message["d"])


@contextmanager
def connect_to_obs(url: str, password: str | None) -> Iterator[ObsClient]:
    """Connects to obs-websocket at ws://HOST:PORT. Raises ObsError if that fails."""
    with lost_connection():
        connection = connect(
            url,
            subprotocols=[Subprotocol("obswebsocket.json")],
            compression=None,
            proxy=None,
            open_timeout=TIMEOUT_S,
            close_timeout=TIMEOUT_S,
        )
        with connection as connected:
            yield ObsClient(connected, password)


@contextmanager
def lost_connection() -> Iterator[None]:
    """Turns what a lost connection raises into an ObsError."""
    try:
        yield
    except ConnectionClosed as error:
        code = None if error.rcvd is None else error.rcvd.code
        if code == AUTHENTICATION_FAILED:
            raise ObsError(f"it rejects the password; set {PASSWORD_VARIABLE}") from error
        if code == UNSUPPORTED_VERSION:
            raise ObsError(f"it does not speak version {RPC_VERSION} of its protocol; update OBS") from error
        raise ObsError("it has closed the connection") from error
    except TimeoutError as error:
        raise ObsError(f"it does not answer within {TIMEOUT_S:g} s") from error
    except InvalidHandshake as error:
        raise ObsError("the server there is not obs-websocket") from error
    except (OSError, WebSocketException) as error:
        raise ObsError(getattr(error, "strerror", None) or type(error).__name__) from error


@contextmanager
def documented_answer() -> Iterator[None]:
    """Turns what an answer of another shape raises into an ObsError."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ObsError("the server there does not speak obs-websocket 5") from error


def authentication(password: str, salt: str, challenge: str) -> str:
    """Returns the answer to a challenge, from which nobody can read the password."""

    def hash_base64(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return hash_base64(hash_base64(password + salt) + challenge)
