"""`python -m cyclecast`, and what torchrun starts: torchrun --nproc-per-node 2 -m cyclecast train …"""

from __future__ import annotations

from cyclecast.cli import main

if __name__ == "__main__":
    main()
