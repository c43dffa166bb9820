"""The parts of a film on several machines, as tasks of Ray, which finds workers for them and repeats those of workers that die.

A task decodes, converts and encodes one part as `convert` would, and sends it back; the driver keeps the list, so that an
interrupted run goes on behind what is done. Every worker opens the model once, from bytes that were sent once. What a machine
is sent lies in a folder there, its room, which is removed at the end; those of runs that were killed, by the next run.
"""

from cyclecast.cluster.driver import Cluster

__all__ = ["Cluster"]
