"""Where frames go: one file for each kind of sink."""
