"""Environments and their reward functions; importing this package registers what it can with Gymnasium.

``import tdm_envs`` makes dm_control's suite known as ``gym.make("dm_control/cartpole-swingup-v0")``; where
nothing imports it, ``gym.make("tdm_envs:dm_control/cartpole-swingup-v0")`` does.
"""

from importlib.util import find_spec

if find_spec("shimmy") is not None:
    import gymnasium
    import shimmy

    gymnasium.register_envs(shimmy)
