"""Move frames: files and live sources in and out, with time, colour and sound. Imports neither torch nor an engine."""
