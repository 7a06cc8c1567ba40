"""The options of ``tdm collect``, apart from its work, so that ``--help`` imports little."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from tdm_agents.cli.pool_options import Hands, PoolOptions


@dataclass(frozen=True)
class Collect:
    """Collect episodes of any actor into Minari data sets; by default of random actions and a planner.

    Each --actor names one, with its number of episodes:

      --actor random
      --actor "expert episodes=100"
      --actor "simulator planner=cem num_samples=64"
      --actor "runs/model episodes=50"
      --actor "sac.zip action_repeat=4"

    All but random are disturbed, so that the data also show mistakes and how to recover: noise on every
    action and bursts of random ones (noise_sds=[0.0] burst_episodes=0 switches both off).

    One environment (--env-id), every walker of a set of bodies (--bodies), or what a manifest says
    (--manifest). Interrupted, the same command goes on where it stopped.
    """

    out: Path
    """Folder of the data: OUT/data for one environment, or OUT/NAME/data for each of several and
    OUT/index.json. They appear when all episodes are done."""
    env_id: str = "dm_control/cartpole-swingup-v0"
    """Gymnasium id, with its arguments: "tdm/WalkerTree-v0 dof=12 body=3"; "module:ID" imports what registers
    it."""
    bodies: Path | None = None
    """Set of walkers, from `tdm envs sample`; the numbers of episodes are per walker."""
    manifest: Path | None = None
    """JSON file of environments, episodes and policies, which says everything except --out and who does
    the work (see docs/collecting.md)."""
    actor: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Who plays; repeat the option for several. Zips of Stable-Baselines3 hold code that runs when they are
    read: use only zips whose makers you trust."""
    random_episodes: int | None = None
    """Number of episodes with random actions that are correlated in time; if not given 200, or 0 with
    --actor."""
    planner_episodes: int | None = None
    """Number of episodes of a planner on the true dynamics, with noise and bursts of random actions; if not
    given 200, or 0 with --actor and where there are no physics to plan with."""
    planner: str | None = None
    """The planner's name, or `expert`, which is the planner tuned for each environment (see `tdm experts
    list`); mppi if not given."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    action_repeat: int | None = None
    """Environment steps that each action is held; if not given the actor's own, or 4, or 1 with --bodies."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut off; 10,000 where nothing else ends it."""
    seed: int = 0
    """Seed of everything: every episode is a function of it."""
    write_manifest: Path | None = None
    """File to which what would be collected is written as a manifest, to be read or changed; nothing is
    collected."""
    shards: str | None = None
    """URL of fsspec (s3://bucket/folder, file:///folder) through which machines that do not see --out hand
    over finished episodes, which are removed from there at the end; the data are in --out."""
    hands: Hands = field(default_factory=PoolOptions)
