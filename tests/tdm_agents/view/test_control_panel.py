"""What a page may ask for by its controls."""

import pytest

from tdm_agents.environments import EnvRef
from tdm_agents.view.control_panel import ControlPanel
from tdm_agents.view.guarded_server import GuardedServer, PageGuard
from tdm_agents.view.live_episode import LiveEpisode, Watched

CEM = "simulator planner=cem horizon=3 num_samples=4 num_elites=2 iterations=1"


@pytest.fixture
def panel():
    server = GuardedServer("127.0.0.1", 0, PageGuard("127.0.0.1", None), "panel")
    sent, complaints = [], []
    found = ControlPanel(
        server.gui,
        (CEM,),
        lambda what, **settings: sent.append((what, settings)),
        lambda: len(sent),
        complaints.append,
    )
    episode = LiveEpisode(Watched(EnvRef.parse("tdm/WalkerTree-v0 dof=4 body=3"), (CEM,)))
    found.introduce(episode.setup())
    yield found, sent, complaints
    episode.close()
    server.stop()


def test_another_planner_has_the_former_horizon(panel):
    controls, sent, _ = panel
    controls.choose_planner("mppi")
    ((what, settings),) = sent
    assert what == "planner" and type(settings["planner"]).__name__ == "MPPI"
    assert settings["planner"].horizon == 3


def test_a_page_cannot_have_a_module_imported(panel, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    controls, sent, complaints = panel
    controls.choose_planner("planted:Planner")
    assert not sent
    assert "planner 'planted:Planner'; expected one of" in complaints[0]
