"""Programs outside that control a run, or that it controls: OSC and OBS."""
