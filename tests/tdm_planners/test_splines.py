import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_planners.splines import knot_steps, spline_matrix

SPLINES = ["zero", "linear", "cubic"]
some = {
    "spline": st.sampled_from(SPLINES),
    "sizes": st.integers(1, 40).flatmap(lambda h: st.tuples(st.just(h), st.integers(1, h))),
}


@settings(max_examples=100, deadline=None)
@given(**some)
def test_a_constant_stays_a_constant(spline, sizes):
    horizon, knots = sizes
    matrix = spline_matrix(horizon, knots, spline)
    assert matrix.shape == (horizon, knots)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(horizon, dtype=torch.float64))


@settings(max_examples=100, deadline=None)
@given(**some)
def test_a_step_with_a_knot_on_it_has_its_value(spline, sizes):
    matrix = spline_matrix(*sizes, spline)
    for knot, at in enumerate(knot_steps(*sizes, spline).tolist()):
        if at == round(at):
            expected = torch.nn.functional.one_hot(torch.tensor(knot), sizes[1]).double()
            torch.testing.assert_close(matrix[round(at)], expected)


@pytest.mark.parametrize("spline", SPLINES)
def test_as_many_knots_as_steps_are_the_steps(spline):
    torch.testing.assert_close(spline_matrix(7, 7, spline), torch.eye(7, dtype=torch.float64))


@settings(max_examples=50, deadline=None)
@given(sizes=st.integers(2, 40).flatmap(lambda h: st.tuples(st.just(h), st.integers(2, h))))
def test_lines_and_cubics_through_knots_on_a_line_are_that_line(sizes):
    for spline in ("linear", "cubic"):
        at = knot_steps(*sizes, spline)
        steps = torch.arange(sizes[0], dtype=torch.float64)
        torch.testing.assert_close(spline_matrix(*sizes, spline) @ (3 - 2 * at), 3 - 2 * steps)


def test_cubics_reproduce_a_parabola_between_inner_knots():
    # finite differences over both neighbours are a parabola's slopes; at the ends they are not
    at = knot_steps(31, 6, "cubic")
    steps = torch.arange(31, dtype=torch.float64)
    found = spline_matrix(31, 6, "cubic") @ at.square()
    inner = (steps >= at[1]) & (steps <= at[-2])
    torch.testing.assert_close(found[inner], steps.square()[inner])


def test_constant_pieces_are_equally_long():
    assert torch.equal(spline_matrix(12, 4, "zero").sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))
    assert spline_matrix(8, 2, "zero")[:, 1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_what_is_no_spline_is_refused():
    with pytest.raises(ValueError, match="knots is 5; expected at least 1 and at most the horizon"):
        spline_matrix(4, 5, "cubic")
    with pytest.raises(ValueError, match="knots is 0"):
        spline_matrix(4, 0, "zero")
    with pytest.raises(ValueError, match="spline is 'quintic'; expected one of zero, linear, cubic"):
        spline_matrix(4, 2, "quintic")
