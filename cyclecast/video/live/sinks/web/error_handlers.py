"""Turns every error of a request into one line of JSON; internals go to the log."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from cyclecast.errors import CyclecastError
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.viewers import TooManyViewers
from cyclecast.video.live.sinks.web.webrtc import InvalidOffer

log = logging.getLogger(__name__)


def add_error_handlers(app: FastAPI, controls: SessionControls) -> None:
    """Answers every error with {"error": line} and the matching status."""

    def error_response(status: int, error: str) -> JSONResponse:
        return JSONResponse({"error": " ".join(error.split())}, status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return error_response(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    @app.exception_handler(CyclecastError)
    async def request_failed(request: Request, error: CyclecastError) -> Response:
        return error_response(409, str(error))

    @app.exception_handler(InvalidOffer)
    async def invalid_offer(request: Request, error: InvalidOffer) -> Response:
        return error_response(400, f"invalid WebRTC offer: {error}")

    @app.exception_handler(TooManyViewers)
    async def too_many_viewers(request: Request, error: TooManyViewers) -> Response:
        return error_response(503, str(error))

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        log.error("web page: %s failed", request.url.path, exc_info=error)
        controls.report(f"web page: {request.url.path} failed: {type(error).__name__}: {error}")
        return error_response(500, "internal error; the terminal of cyclecast shows details")
