import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import gymnasium as gym
import pytest

from tdm_agents import TDMAgent, registry
from tdm_agents.cli.main import main
from tdm_agents.environments import UntrustedModuleError
from tdm_agents.errors import UnknownNameError
from tdm_agents.registry import (
    PLANNERS,
    WORLD_MODELS,
    PluginError,
    load,
    make_planner,
    names,
    providers,
    register,
)
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel


@dataclass(frozen=True)
class Mine:
    horizon: int = 3
    width: int = 2

    def init(self, spec, batch):
        return None

    def plan(self, model, state, carry, *, elapsed, generator):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def unregister(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def test_the_built_in_planners_are_found_through_their_entry_points():
    assert {"cem", "mppi", "random_shooting"} <= set(names(PLANNERS))
    assert load(PLANNERS, "mppi").__name__ == "MPPI"


def test_settings_reach_the_planner():
    assert make_planner("cem", horizon=9, num_samples=48).horizon == 9


def test_a_setting_is_taken_by_its_former_name_with_a_warning():
    for given in ({"returns": "mean"}, {"execute": "best", "returns": "mean"}):
        with pytest.warns(DeprecationWarning, match="setting 'returns' of planner 'cem' is called 'execute'"):
            assert make_planner("cem", **given) == make_planner("cem", execute="mean")
    with pytest.raises(TypeError, match="'random_shooting' has no setting 'returns'"):
        make_planner("random_shooting", returns="mean")  # it never had the choice


def test_a_strangers_setting_of_a_former_name_is_left_alone(recwarn):
    @dataclass(frozen=True)
    class Trader(Mine):
        execute: str = "orders"
        returns: float = 0.0

    register(PLANNERS, "trader", Trader)
    assert make_planner("trader", returns=2.0).returns == 2.0
    assert not recwarn.list


def test_a_registered_planner_is_made_by_name():
    register(PLANNERS, "mine", Mine)
    assert make_planner("mine", width=5) == Mine(width=5)
    assert "mine" in names(PLANNERS)


def test_an_unknown_name_gets_the_nearest_match_and_what_is_installed():
    with pytest.raises(UnknownNameError, match=r"no planner named 'mpi'; did you mean 'mppi'\?.*cem"):
        make_planner("mpi")


def test_a_name_like_no_other_gets_what_is_installed():
    with pytest.raises(UnknownNameError, match=r"no planner named 'zzz'; installed: .*mppi"):
        make_planner("zzz")


@pytest.mark.parametrize("name", ["mine", "mppi"])
def test_a_name_cannot_be_taken_twice(name):
    register(PLANNERS, "mine", Mine)
    with pytest.raises(ValueError, match="already taken"):
        register(PLANNERS, name, Mine)


def test_an_unknown_setting_lists_the_settings():
    with pytest.raises(TypeError, match=r"planner 'mppi' has no setting 'samples'; it has .*num_samples"):
        make_planner("mppi", samples=3)


def test_a_setting_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="horizon is 0"):
        make_planner("mppi", horizon=0)


def test_planners_are_imported_when_first_used():
    code = (
        "import sys; from tdm_agents import registry; registry.names(registry.PLANNERS);"
        "assert not any(m.startswith('tdm_planners.') for m in sys.modules);"
        "registry.load(registry.PLANNERS, 'mppi'); assert 'tdm_planners.mppi' in sys.modules;"
        "assert 'tdm_planners.cem' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_planner_cannot_be_registered():
    with pytest.raises(TypeError, match=r"'mine' cannot be .*: str has no init\(\), no plan\(\)"):
        register(PLANNERS, "mine", str)
    register(PLANNERS, "made", lambda **settings: Mine(**settings))
    assert make_planner("made", width=4) == Mine(width=4)


# plug-ins that cannot be used: packages as an installer leaves them in site-packages

GOOD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Good:
    horizon: int = 3
    seeds: tuple = ()
    def init(self, spec, batch): ...
    def plan(self, model, state, carry, *, elapsed, generator): ...

class Plain(Good):
    __dataclass_params__ = None

@dataclass
class Thawed:
    horizon: int = 3
    init = plan = Good.plan

@dataclass(frozen=True)
class Endless:
    init = plan = Good.plan

@dataclass(frozen=True)
class Planless:
    horizon: int = 3
    def init(self, spec, batch): ...

class Model:
    def start(self, history, *, horizon): ...
    def step(self, state, action, *, generator=None): ...
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Adds a distribution with one module and entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name, source, version="1.2", group=PLANNERS, **entries):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{key} = {name}:{attribute}" for key, attribute in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        monkeypatch.delitem(sys.modules, name, raising=False)

    return add


def listed(capsys):
    assert main(["planners", "--json"]) == 0
    return {p["name"]: p for p in json.loads(capsys.readouterr().out)}


def test_a_strangers_planner_is_found_with_its_distribution_and_version(install, capsys):
    install("acme", GOOD, good="Good")
    assert make_planner("good", horizon=9).horizon == 9
    assert providers(PLANNERS, "good") == [("acme", "1.2")]
    found = listed(capsys)["good"]
    assert (found["package"], found["version"], found["error"]) == ("acme", "1.2", None)
    assert found["settings"] == {"horizon": 3, "seeds": []}


@pytest.mark.parametrize(
    ("source", "attribute", "message"),
    [
        ("raise RuntimeError('no licence')", "Any", "does not import: RuntimeError: no licence"),
        ("import nobody_has_this", "Any", "does not import: ModuleNotFoundError: No module named 'nobody"),
        ("import sys; sys.exit('usage: acme')", "Any", "does not import: SystemExit: usage: acme"),
        (GOOD, "Missing", "does not import: AttributeError: .*'Missing'"),
        (GOOD, "Planless", r"breaks the contract of a planner: Planless has no plan\(\)"),
        (GOOD, "Plain", "Plain is not a frozen dataclass of its settings"),
        (GOOD, "Thawed", "Thawed is not a frozen dataclass of its settings"),
        (GOOD, "Endless", "Endless has no horizon"),
        ("settings = {}", "settings", "it is a dict; expected a class"),
    ],
)
def test_a_planner_that_cannot_be_used_is_named_with_its_package_and_the_others_work(
    source, attribute, message, install, capsys
):
    install("acme", source, broken=attribute)
    named = rf"'broken' in 'tdm_agents\.planners' is acme:{attribute} of package acme 1\.2, which .*{message}"
    with pytest.raises(PluginError, match=named):
        make_planner("broken")
    assert make_planner("mppi").horizon > 0
    assert main(["demo", "--planner", "broken"]) == 2
    said = capsys.readouterr().err
    assert "of package acme 1.2" in said and said.count("\n") == 1
    found = listed(capsys)
    assert found["broken"]["package"] == "acme" and "of package acme 1.2" in found["broken"]["error"]
    assert {name for name, p in found.items() if p["error"]} == {"broken"}


def test_a_name_of_two_packages_is_an_error_that_names_both_and_only_when_asked_for(install, capsys):
    install("acme", GOOD, mine="Good", cem="Good")
    install("rival", GOOD, version="7", mine="Good")
    with pytest.raises(PluginError, match=r"'mine' is provided more than once.*acme 1\.2, .*rival 7; unin"):
        make_planner("mine")
    with pytest.raises(PluginError, match=r"tdm_planners\.cem:CEM of package tdm-agents .*uninstall"):
        make_planner("cem")
    assert make_planner("mppi").horizon > 0
    found = listed(capsys)
    assert found["mine"]["package"] == "acme, rival" and found["mine"]["version"] == "1.2, 7"
    assert {name for name, p in found.items() if p["error"]} == {"cem", "mine"}


def test_a_world_model_that_is_none_is_named(install):
    install("acme", GOOD, group=WORLD_MODELS, dream="Model")
    with pytest.raises(PluginError, match=r"breaks the contract of a world model: Model has no take\(\)"):
        load(WORLD_MODELS, "dream")
    assert load(WORLD_MODELS, "mlp").__name__ == "MLPWorldModel"


OWN = """
    from dataclasses import dataclass

    from tdm_planners.mppi import MPPI


    @dataclass(frozen=True, kw_only=True)
    class Own(MPPI):
        spread: float = 0.5


    class Useless:
        pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The current folder, with a planner in ``own_planner.py``, which is not imported yet."""
    (tmp_path / "own_planner.py").write_text(textwrap.dedent(OWN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("own_planner", None)


def saved_agent(planner, folder):
    env = gym.make("Pendulum-v1")
    model = MLPWorldModel(spec_of(env.observation_space, env.action_space), MLPConfig(hidden=4))
    TDMAgent(model, planner, env_id="Pendulum-v1").save(folder)


def test_a_planner_of_a_file_needs_no_package(own):
    made = make_planner("own_planner:Own", horizon=4, spread=0.2)
    assert (made.horizon, made.spread) == (4, 0.2)
    with pytest.raises(TypeError, match="planner 'own_planner:Own' has no setting 'width'"):
        make_planner("own_planner:Own", width=3)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("own_planner:Onw", UnknownNameError, "no class 'Onw'; its planners: MPPI, Own"),
        ("own_planner:Useless", TypeError, r"breaks the contract of a planner: Useless has no init\(\)"),
        ("nowhere:Own", ImportError, "No module named 'nowhere'; install it, or run"),
        ("own_planner:a b", ValueError, "expected 'module:Class'"),
        ("os:system", UnknownNameError, "os has no class 'system'"),
        ("subprocess:Popen", TypeError, "breaks the contract of a planner"),
    ],
)
def test_a_file_without_such_a_planner_is_refused(own, name, error, said):
    with pytest.raises(error, match=said):
        make_planner(name)


def test_it_is_saved_by_its_name_and_a_checkpoint_is_no_reason_to_import_it(own):
    saved_agent(make_planner("own_planner:Own", horizon=4), own / "agent")
    assert json.loads((own / "agent" / "agent.json").read_text())["planner"]["name"] == "own_planner:Own"
    sys.modules.pop("own_planner")
    with pytest.raises(UntrustedModuleError, match="names the module 'own_planner' for its planner"):
        TDMAgent.load(own / "agent")
    assert "own_planner" not in sys.modules
    assert TDMAgent.load(own / "agent", "mppi").planner.horizon == 4
    assert TDMAgent.load(own / "agent", "own_planner:Own").planner.spread == 0.5  # the user says so
    assert TDMAgent.load(own / "agent").planner.horizon == 4


def test_commands_take_it(own, capsys):
    saved_agent(make_planner("mppi", horizon=4), own / "agent")
    entries = ["--entry", "agent planner=own_planner:Own num_samples=4 label=mine", "--entry", "random"]
    assert main(["compare", *entries, "--episodes", "1", "--max-steps", "2", "--out", "out"]) == 0
    assert "mine" in capsys.readouterr().out
    assert main(["evaluate", "--checkpoint", "agent", "--planner", "own_planner:Onw"]) == 2
    assert "its planners: MPPI, Own" in capsys.readouterr().err
