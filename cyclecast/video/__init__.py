"""Move frames: files and live sources in and out, with time, color and sound. Imports neither torch nor an engine."""
