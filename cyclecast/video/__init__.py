"""Move frames: files in and out, with time, colour and sound. Imports neither torch nor an engine."""
