"""``python -m tdm_agents``: the command line ``tdm``."""

import sys

from tdm_agents.cli.main import main

sys.exit(main())
