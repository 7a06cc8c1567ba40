import pytest
from differential_evolution import DifferentialEvolution

from tdm_agents.testing import LinearQuadraticModel, check_planner


def test_it_keeps_the_contract_of_planners():
    check_planner(
        DifferentialEvolution, noise="spread", search={"num_samples": 48, "iterations": 30, "hold": 1}
    )


def test_discrete_actions_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"continuous actions; the model's are discrete: .*cem"):
        DifferentialEvolution().init(LinearQuadraticModel(choices=3).spec, 1)


@pytest.mark.parametrize(
    "setting", [{"num_samples": 3}, {"factor": 3.0}, {"crossover": -0.1}, {"hold": 0}, {"discount": 0.0}]
)
def test_a_setting_that_makes_no_sense_is_named(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is"):
        DifferentialEvolution(**setting)
