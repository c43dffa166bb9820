"""Tests of cyclecast.export."""
