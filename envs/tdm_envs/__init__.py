"""Environments and their reward functions; importing this package registers them with Gymnasium.

``import tdm_envs``, or ``gym.make("tdm_envs:ID")`` where nothing imports it, registers:

- the procedural walkers, ``tdm/WalkerLine-v0``, ``tdm/WalkerChain-v0``, ``tdm/WalkerBush-v0`` and
  ``tdm/WalkerTree-v0``, with ``dof=`` and ``body=``;
- ``tdm/Suite-v0``, dm_control's suite, with ``domain=`` and ``task=``, and with ``variant=`` for other
  physical constants;
- ``tdm/AntPoints-v0``, an ant that runs to points (:mod:`tdm_envs.ant_points`);
- ``tdm/Pixels-v0``, any environment seen through its own pictures, with ``env=`` (:mod:`tdm_envs.pixels`);
- Shimmy's version of the suite, ``dm_control/cartpole-swingup-v0`` and so on.

dm_control is imported when one of its environments is made, and not before. Where it is not installed, they
are answered with the reason and the remedy.
"""

import warnings

import gymnasium

from tdm_envs import shimmy_ids, without_dm_control

# dm_control looks for a display when it is imported, and warns if there is none even if nothing is rendered
warnings.filterwarnings("ignore", message=r".*The DISPLAY environment variable is missing")

for _family in ("line", "chain", "bush", "tree"):
    gymnasium.register(
        id=f"tdm/Walker{_family.capitalize()}-v0",
        entry_point=f"tdm_envs.walkers.registered:{_family.capitalize()}Walker",
        max_episode_steps=1000,
        kwargs={"family": _family},
    )

if without_dm_control.is_installed():
    gymnasium.register(id="tdm/Suite-v0", entry_point="tdm_envs.suite_env:SuiteEnv", max_episode_steps=1000)
else:
    _refusal = {"env_id": "tdm/Suite-v0"}
    gymnasium.register(id="tdm/Suite-v0", entry_point="tdm_envs.without_dm_control:refuse", kwargs=_refusal)

gymnasium.register(
    id="tdm/Pixels-v0",
    entry_point="tdm_envs.pixels:pixels",
    disable_env_checker=True,  # the environment inside is checked, and stacked pictures are unusual to it
)

gymnasium.register(id="tdm/AntPoints-v0", entry_point="tdm_envs.ant_points:AntPoints", max_episode_steps=500)

shimmy_ids.register()
# Shimmy registers the same ids where a program imports it later
warnings.filterwarnings("ignore", message=r".*Overriding environment dm_control/")
