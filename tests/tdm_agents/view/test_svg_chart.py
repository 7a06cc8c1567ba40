"""Charts are SVG that holds what it is given, with gaps where nothing is known."""

from xml.etree import ElementTree

import numpy as np

from tdm_agents.view.svg_chart import Line, svg_chart

SPACE = "{}"


def paths(text):
    return [path.get("d") for path in ElementTree.fromstring(text).iter("path")][1:]  # after the frame


def test_a_line_has_its_points_and_a_gap_where_nothing_is_known():
    x = np.arange(5.0)
    (path,) = paths(svg_chart("t", [Line(x, np.array([0.0, 1.0, np.nan, 1.0, 2.0]), "red")]))
    assert path.count("M") == 2 and path.count("L") == 2
    assert path.startswith("M44.0 104.0") and path.endswith("L292.0 20.0")  # the corners of the frame


def test_long_lines_are_thinned_and_titles_escaped():
    x = np.linspace(0, 1, 10_000)
    text = svg_chart("a<b & 'c'", [Line(x, x, "red", down_to=0 * x)], unit="s")
    assert len(text) < 12_000
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == "a<b & 'c'"
    assert len(list(root.iter("polygon"))) == 1


def test_nothing_known_and_flat_lines_are_drawn_too():
    nothing = np.array([np.nan, np.nan])
    assert paths(svg_chart("t", [Line(np.arange(2.0), nothing, "red")])) == []
    assert paths(svg_chart("t", [])) == []
    (path,) = paths(svg_chart("t", [Line(np.arange(2.0), np.zeros(2), "red")]))
    assert "nan" not in path
