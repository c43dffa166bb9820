"""From a live source to styled pictures, the newest first; who shows them is for `session` and the sinks."""
