"""Tests of cyclecast.video."""
