"""The command `web-app`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cyclecast.cli.console import JsonOption, bars, extra, print_json, print_line


def web_app(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled model, or the path or address of an ONNX frame model in fp32; repeat it for several. "
            "Default: all bundled models.",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="both: fp32, and fp16 for GPUs that support it; or fp32: no files in fp16.")
    ] = "both",
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="The npm package onnxruntime-web (.tgz), or a folder with its files, for machines without a network. Default: "
            "it is downloaded once and kept in the cache."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a site that this command wrote.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a static web site that styles video in the viewer's browser. Needs the extra `adopt`.

    The models run on the viewer's GPU by WebGPU, or on the CPU by WebAssembly. Any web host serves the folder; nothing is loaded
    from elsewhere, and the video does not leave the viewer's machine.

    Example: cyclecast web-app -o site --model monet --model mine.onnx
    """
    with extra("adopt"):
        from cyclecast.web_app.site import write_site

    with bars("models/s") as bar:
        site = write_site(
            output,
            model or (),
            precision=precision,
            runtime=runtime,
            overwrite=overwrite,
            on_message=print_line,
            on_model=bar("models"),
        )
    if as_json:
        entries = [{**part.entry, "psnr_db": part.psnr_db} for part in site.models]
        return print_json({"output": str(output), "version": site.version, "bytes": site.bytes, "models": entries})
    names = ", ".join(part.entry["name"] for part in site.models)
    print_line(f"{output}: {names}; {site.bytes / 1e6:.1f} MB in all")
    print_line(f"try it: python3 -m http.server --directory {shlex.quote(str(output))}, then open http://localhost:8000/")
