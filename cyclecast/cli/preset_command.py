"""The class of the command `live`, which knows presets. They are imported only if one is given."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from cyclecast.errors import ConfigError


class LiveCommand(TyperCommand):
    """The command with its presets: takes options from `--preset` before it runs, and writes them to `--save-preset`."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Raises ConfigError, InputError or OutputError for a preset that is wrong or cannot be written."""
        if ctx.params["save_secrets"] and ctx.params["save_preset"] is None:
            raise ConfigError("--save-secrets needs --save-preset FILE")
        if ctx.params["preset"] is not None or ctx.params["save_preset"] is not None:
            from cyclecast.cli.presets import apply_preset, save_preset

            if ctx.params["preset"] is not None:
                apply_preset(ctx, ctx.params["preset"])
            if ctx.params["save_preset"] is not None:
                save_preset(ctx, ctx.params["save_preset"])
        return super().invoke(ctx)
