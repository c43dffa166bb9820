"""Where frames go: one file for each type of sink."""
