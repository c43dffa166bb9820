"""Tests of cyclecast.training."""
