"""Run captured frames through the active model, and switch models and heights while running."""
