"""Contract tests that plug-in authors run in their own test suites, and the model that they use.

::

    from tdm_agents.testing import check_planner, check_world_model

    def test_my_planner_keeps_the_contract():
        check_planner(MyPlanner, noise="noise_scale")

Each failure is an ``AssertionError`` whose sentence says which contract is broken.
"""

from tdm_agents.testing.linear_quadratic import LinearQuadraticExpert, LinearQuadraticModel
from tdm_agents.testing.planner_contract import check_planner
from tdm_agents.testing.trainable_contract import check_trainable_model, recorded_episodes
from tdm_agents.testing.world_model_contract import check_world_model

__all__ = [
    "LinearQuadraticExpert",
    "LinearQuadraticModel",
    "check_planner",
    "check_trainable_model",
    "check_world_model",
    "recorded_episodes",
]
