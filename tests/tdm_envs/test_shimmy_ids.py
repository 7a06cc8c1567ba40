"""Shimmy's environments: known by name from the start, imported when one is made."""

import subprocess
import sys

import pytest

PREPARED = "import sys, gymnasium as gym\n"
HEAVY = ["dm_control", "dm_env", "shimmy", "mujoco", "torch"]


def printed(script, *flags):
    done = subprocess.run(
        [sys.executable, *flags, "-c", PREPARED + script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_importing_tdm_envs_imports_no_dm_control_before_one_of_its_environments_is_made():
    out, err = printed(
        f"heavy = {HEAVY}\n"
        "import tdm_envs\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "env = gym.make('dm_control/cartpole-swingup-v0')\n"
        "print(type(env.unwrapped).__module__, env.spec.id, env.spec.kwargs)\n"
        "again = env.spec.make()\n"
        "print(again.spec.id, gym.make('dm_control/reacher-easy-v0').spec.id)\n"
    )
    assert out.splitlines() == [
        "[]",
        "shimmy.dm_control_compatibility dm_control/cartpole-swingup-v0 {}",
        "dm_control/cartpole-swingup-v0 dm_control/reacher-easy-v0",
    ]
    assert not err


@pytest.mark.parametrize("first", ["shimmy, tdm_envs", "tdm_envs, shimmy"])
def test_ids_and_flags_are_those_that_shimmy_registers(first):
    out, err = printed(
        f"import {first}\n"
        "from tdm_envs import shimmy_ids\n"
        "found = {i: s.nondeterministic for i, s in gym.registry.items() if i.startswith('dm_control/')}\n"
        "for i in shimmy_ids.SHIMMY_IDS:\n"
        "    del gym.registry[i]\n"
        "shimmy_ids.register()\n"
        "ours = {i: s.nondeterministic for i, s in gym.registry.items() if i.startswith('dm_control/')}\n"
        "print(found == ours, len(ours) > 80)\n",
        "-W",
        "error",
    )
    assert out == "True True\n" and not err


@pytest.mark.parametrize("missing", ["shimmy", "dm_control"])
def test_without_a_package_the_error_says_what_to_install_and_walkers_work(missing):
    out, _ = printed(
        f"sys.modules[{missing!r}] = None\n"
        "import tdm_envs\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        gym.make('dm_control/cartpole-swingup-v0')\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
        "print(gym.make('tdm/WalkerLine-v0', dof=4).reset(seed=0)[1] is not None)\n"
    )
    *told, works = out.splitlines()
    assert len(told) == 2 and works == "True"
    assert all("pip install" in line for line in told)
