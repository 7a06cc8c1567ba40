"""The page in a real browser: it is looked at, clicked, and driven over a slow line."""

import re

import pytest
from chromium import SlowLine, Tab, browser, needs_chromium
from view_command import viewing

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.timeout(900)]

WALKER = ("--env-id", "tdm/WalkerTree-v0 dof=4 body=3")
FAST = "simulator planner=cem horizon=4 num_samples=6 num_elites=3 iterations=2 action_repeat=4"


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def walker(tmp_path_factory):
    words = (*WALKER, "--entry", FAST, "--entry", "expert", "--entry", "random", "--fps", "10")
    with viewing(tmp_path_factory.mktemp("walker"), *words) as found:
        yield found


@pytest.fixture
def tab(chromium, walker):
    tab = Tab(chromium).open(walker.url)
    tab.wait(lambda: tab.step()[1] > 0, "a first step")
    yield tab
    assert tab.complaints == []
    tab.close()


def click(tab, name):
    tab.page.get_by_role("button", name=name, exact=True).click(force=True)


def pause(tab):
    box = tab.page.get_by_label("running")
    if box.is_checked():
        box.click(force=True)
    tab.wait(lambda: tab.status()["state"] == "paused", "a pause")
    return tab.step()


def go_on(tab):
    box = tab.page.get_by_label("running")
    if not box.is_checked():
        box.click(force=True)


def choose(tab, label, option):
    tab.page.get_by_label(label, exact=True).first.click(force=True)
    tab.page.get_by_role("option", name=option, exact=True).click(force=True)


def test_it_shows_the_body_and_what_is_thought(tab):
    status = tab.status()
    assert status["player"] == "cem on the true simulator"
    assert re.fullmatch(r"[\d.]+ ms for 100 ms of real time", status["thinking"])
    assert tab.page.locator("canvas").count() >= 1
    charts = tab.page.locator("svg[role=img]")
    tab.wait(lambda: charts.count() == 6, "six charts")
    titles = [chart.get_attribute("aria-label") for chart in charts.all()]
    assert titles[0] == "return so far" and titles[3] == "root_height"
    # the last iteration's histogram is filled
    assert tab.page.locator("svg[role=img] polygon").count() == 1


def test_it_pauses_steps_and_resets(tab):
    episode, step = pause(tab)
    click(tab, "Step")
    tab.wait(lambda: tab.step() == (episode, step + 1), "one step more")
    click(tab, "Reset")
    tab.wait(lambda: tab.step() == (episode + 1, 0), "the next episode")
    go_on(tab)
    tab.wait(lambda: tab.step()[1] > 1, "steps")


def test_sliders_change_the_planner_and_pickers_the_player(tab):
    slider = tab.page.get_by_role("slider").nth(1)
    assert slider.get_attribute("aria-valuenow") == "4"
    slider.focus()
    slider.press("ArrowRight")
    tab.wait(lambda: slider.get_attribute("aria-valuenow") == "5", "a horizon of 5")
    choose(tab, "planner", "random_shooting")
    tab.wait(lambda: "random_shooting" in tab.status()["player"], "another planner")
    tab.wait(lambda: tab.page.get_by_text("noise_scale").count() > 0, "its settings")
    assert tab.page.get_by_role("slider").nth(1).get_attribute("aria-valuenow") == "5"  # the horizon stays
    choose(tab, "model", "random")
    tab.wait(lambda: tab.status()["player"] == "random policy", "random actions")
    choose(tab, "model", FAST)
    tab.wait(lambda: tab.status()["player"] == "cem on the true simulator", "the planner again")


def test_a_push_moves_the_body_and_a_recording_is_written(tab, walker, chromium):
    click(tab, "Record")
    tab.page.get_by_text("Push", exact=True).first.click(force=True)
    tab.page.get_by_role("button", name="Push", exact=True).click(force=True)
    before = tab.step()[1]
    tab.wait(lambda: tab.step()[1] > before + 5, "steps after a push")
    click(tab, "Write the recording")
    out = walker.log.parent / "out"
    tab.wait(lambda: any(out.glob("scene-*.html")), "a recording")
    (file,) = out.glob("scene-*.html")
    replay = Tab(chromium, offline=True).open(file.as_uri())
    replay.page.locator("canvas").first.wait_for()
    replay.page.wait_for_timeout(2000)
    assert replay.complaints == []
    assert [url for url in replay.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    replay.close()


def test_several_look_on_and_a_closed_page_stops_nothing(tab, walker, chromium):
    other = Tab(chromium).open(walker.url)
    other.wait(lambda: other.step()[1] > 0, "a second viewer's first step")
    before = tab.step()
    other.close()
    tab.wait(lambda: tab.step() > (before[0], before[1] + 3), "steps after a viewer left")


def test_a_slow_line_gets_the_newest_pictures_and_slows_nothing(walker, chromium):
    line = SlowLine(walker.port, 300_000)  # the page itself in seconds
    tab = Tab(chromium).open(f"http://127.0.0.1:{line.port}/")
    tab.wait(lambda: tab.step()[1] > 0, "a first step over a slow line")
    line.rate = 20_000  # about 5 pictures per second
    carried, seen = line.carried, set()
    for _ in range(40):
        seen.add(tab.step())
        tab.page.wait_for_timeout(200)
    assert line.carried > carried
    assert len(seen) >= 5  # it goes on, with fewer pictures
    direct = Tab(chromium).open(walker.url)
    direct.wait(lambda: direct.step()[1] > 0, "a first step beside it")
    tab.wait(lambda: _near(tab.step(), direct.step()), "steps that lag by less than two seconds")
    assert tab.complaints == [] and direct.complaints == []
    tab.close()
    direct.close()
    line.close()


def _near(one, other):
    return one[0] == other[0] and abs(one[1] - other[1]) <= 40
