"""How fast are decisions imagined, beside other ways, the linear layers alone and the roofline?

`tdm benchmark speed`, kept with the other results; takes its options. Every row is kept at once, and the same
command goes on where it stopped.

    python benchmarks/planning_speed.py
"""

from __future__ import annotations

import sys

from tdm_agents.cli.main import main

OUT = "benchmarks/results/planning_speed.json"

if __name__ == "__main__":
    sys.exit(main(["benchmark", "speed", "--out", OUT, *sys.argv[1:]]))
