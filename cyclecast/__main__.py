"""Runs the command line: `python -m cyclecast`, or with torchrun: torchrun --nproc-per-node 2 -m cyclecast train …"""

from __future__ import annotations

from cyclecast.cli import main

if __name__ == "__main__":
    main()
