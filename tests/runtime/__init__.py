"""Tests of cyclecast.runtime."""
