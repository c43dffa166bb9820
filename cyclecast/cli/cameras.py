"""The command `cameras`: what `live` can open under a name, and what it delivers."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from cyclecast.cli.console import JsonOption, console, print_json
from cyclecast.cli.doctor import NO_CAMERA, describe_mode, describe_type
from cyclecast.phrases import printable


def cameras(
    measure: Annotated[
        bool, typer.Option(help="Whether to open each camera for about two seconds and measure its modes.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """List the cameras of this machine, virtual ones included, with their addresses, modes and measured rates.

    A part of a name is enough for `cyclecast live`.

    Example: cyclecast cameras
    """
    from cyclecast.doctor.cameras import find_named_cameras

    with console.status("opening the cameras" if measure else "asking the drivers"):
        found = find_named_cameras(measure)
    if as_json:
        print_json({"cameras": [dataclasses.asdict(camera) for camera in found]})
        return
    for camera in found:
        if camera.failure is not None:
            description = f": {camera.failure}"
        elif camera.modes or (camera.kind == "camera" and not measure):
            description = ""
        elif camera.kind == "virtual" and measure:
            description = ": a virtual camera; no program sends video to it now"
        else:
            description = describe_type(camera)
        print(printable(f"{camera.name} ({camera.source}){description}"))
        for mode in camera.modes:
            print(f"    {describe_mode(mode)}")
    if not found:
        print(NO_CAMERA)
