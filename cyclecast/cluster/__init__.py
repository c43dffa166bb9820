"""Converts the parts of a video on several machines, as tasks of Ray. Ray finds workers and repeats the tasks of those that die.

A task decodes, styles and encodes one part as `convert` does and returns its bytes. The driver keeps the list of parts, so an
interrupted run resumes. Each worker opens the model once, from bytes that are sent once. Each run has a scratch folder on every
machine for what it is sent; the run removes it at its end, and the next run removes those of runs that were killed.
"""

from cyclecast.cluster.driver import Cluster

__all__ = ["Cluster"]
