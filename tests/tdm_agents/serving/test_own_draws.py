"""Draws of a shared decision are those that each session would make alone."""

import pytest
import torch

from tdm_agents.serving.own_draws import DrawsDifferError, OwnDraws, RecordedDraws


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def white(rows, g):
    return torch.randn(rows, 4, 3, generator=g)


def in_tuple(rows, g):
    return torch.rand((rows, 3), generator=g, dtype=torch.float64)


def by_name(rows, g):
    return torch.rand(size=(rows,), generator=g)


def second_axis(rows, g):
    return torch.randn((2, rows, 5), generator=g).movedim(1, 0)


def transposed(rows, g):
    return torch.rand((7, 3 * rows), generator=g).T.reshape(rows, -1)


def integers(rows, g):
    return torch.randint(-5, 9, (rows, 20), generator=g)


def chosen(rows, g):
    weights = torch.linspace(0.1, 1, 6).expand(rows, 6).contiguous()
    return torch.multinomial(weights, 2, generator=g)


def in_place(rows, g):
    return torch.empty(rows, 20).exponential_(generator=g)


def several(rows, g):
    return torch.cat([white(rows, g).flatten(1), in_place(rows, g), second_axis(rows, g).flatten(1)], dim=1)


@pytest.mark.parametrize(
    "draw", [white, in_tuple, by_name, second_axis, transposed, integers, chosen, in_place, several]
)
@pytest.mark.parametrize("rows", [[1, 1], [2, 1, 5], [1, 3]])
def test_each_session_gets_what_it_would_draw_alone(draw, rows):
    with RecordedDraws(one := seeded(0)) as recorded:
        draw(1, one)
    own, shared = [seeded(10 + i) for i in range(len(rows))], seeded(1)
    with OwnDraws(shared, list(zip(own, rows, strict=True)), recorded.draws) as draws:
        together = draw(sum(rows), shared)
    draws.check_done()
    for i, part in enumerate(torch.split(together, rows)):
        alone = seeded(10 + i)
        assert torch.equal(part, draw(rows[i], alone))
        assert torch.equal(own[i].get_state(), alone.get_state())


def shared_by_all(rows, g):
    return torch.randn(4, generator=g)


def of_no_shape(rows, g):
    return torch.randint(2**60, (), generator=g)


def grows_twice(rows, g):
    return torch.randn(rows, rows, generator=g)


def by_other_means(rows, g):
    return torch.normal(torch.zeros(rows), 1.0, generator=g)


def more_for_several(rows, g):
    return [white(rows, g) for _ in range(rows)]


def permuted(rows, g):
    return torch.randperm(rows, generator=g)


def by_position(rows, g):
    return torch.bernoulli(torch.full((rows,), 0.5), generator=g)


@pytest.mark.parametrize(
    "draw",
    [shared_by_all, of_no_shape, grows_twice, by_other_means, more_for_several, permuted, by_position],
)
def test_other_draws_are_refused(draw):
    with pytest.raises(DrawsDifferError):
        with RecordedDraws(one := seeded(0)) as recorded:
            draw(1, one)
        shared = seeded(1)
        with OwnDraws(shared, [(seeded(2), 1), (seeded(3), 2)], recorded.draws) as draws:
            draw(3, shared)
        draws.check_done()


def test_fewer_draws_and_other_generators_are_noticed():
    with RecordedDraws(one := seeded(0)) as recorded:
        white(1, one)
    parts = [(seeded(2), 1), (seeded(3), 1)]
    with OwnDraws(seeded(1), parts, recorded.draws) as draws:
        white(2, seeded(5))
    with pytest.raises(DrawsDifferError):
        draws.check_done()
