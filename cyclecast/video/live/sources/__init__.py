"""Live sources: one file for each type."""
