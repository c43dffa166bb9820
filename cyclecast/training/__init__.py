"""Trains generators: from folders of images to a checkpoint. Needs the extra `train`.

`cyclecast.export` imports its modules, and so do the CLI and `cyclecast.measure`; the other packages do not.
"""
