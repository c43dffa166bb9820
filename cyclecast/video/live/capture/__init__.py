"""Capture a live source in an isolated process and hand over its newest frame."""
