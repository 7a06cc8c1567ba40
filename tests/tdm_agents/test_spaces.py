import math
import tracemalloc
from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tdm_agents.actors.functions import UniformActions
from tdm_agents.data.minari_io import flatten_steps, unflatten_steps
from tdm_agents.errors import TDMError
from tdm_agents.spaces import ActionCodec, DiscreteActionCodec, ObservationCodec, action_codec
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.wrappers.reward_function import _physical
from tdm_agents.wrappers.sb3 import batched_observation

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    shape = draw(SHAPES)
    kind = draw(st.sampled_from([np.float32, np.float64, np.int32]))
    if kind == np.int32:
        return spaces.Box(-100, 100, shape, np.int32)
    bound = draw(st.sampled_from([1.0, 1e4, np.inf]))
    return spaces.Box(-bound, bound, shape, kind)


def nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.dictionaries(st.sampled_from("zyxab"), children, min_size=1, max_size=3)
    return st.one_of(
        keys.map(spaces.Dict),
        keys.map(lambda d: spaces.Dict(OrderedDict(d))),
        st.lists(children, min_size=1, max_size=3).map(spaces.Tuple),
    )


@st.composite
def categories(draw: st.DrawFn) -> spaces.Discrete | spaces.MultiDiscrete:
    count, start = st.integers(1, 4), st.integers(-3, 3)
    if draw(st.booleans()):
        return spaces.Discrete(draw(count), start=draw(start))
    shape = draw(hnp.array_shapes(max_dims=2, max_side=3))
    nvec, starts = (draw(hnp.arrays(np.int64, shape, elements=e)) for e in (count, start))
    return spaces.MultiDiscrete(nvec, start=starts)


BITS = hnp.array_shapes(max_dims=2, max_side=3).map(spaces.MultiBinary)
SPACES = st.recursive(st.one_of(boxes(), categories(), BITS), nested, max_leaves=6)


def sample(space: spaces.Space[Any], seed: int) -> Any:
    space.seed(seed)
    return space.sample()


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_array_equal(np.float32(a), np.float32(b))


# -- observations -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(space=SPACES, seed=st.integers(0, 1000))
def test_flattening_is_gymnasiums_own_in_float32(space, seed):
    codec = ObservationCodec(space)
    observation = sample(space, seed)
    flat = codec.flatten(observation)
    assert flat.dtype == np.float32
    assert flat.shape == (codec.dim,)
    np.testing.assert_array_equal(flat, np.float32(spaces.flatten(space, observation)))


@settings(deadline=None)
@given(space=SPACES, seed=st.integers(0, 1000))
def test_unflattening_restores_the_observation_in_float32(space, seed):
    codec = ObservationCodec(space)
    observation = sample(space, seed)
    assert_same(codec.unflatten(codec.flatten(observation)), observation)


@settings(deadline=None)
@given(space=SPACES, seed=st.integers(0, 1000), data=st.data())
def test_one_scalar_that_is_not_finite_is_named(space, seed, data):
    codec = ObservationCodec(spaces.Tuple([space, spaces.Box(-np.inf, np.inf, (3,), np.float64)]))
    bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e300]))  # 1e300 is inf in float32
    index = data.draw(st.integers(0, 2))
    vector = np.zeros(3)
    vector[index] = bad
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=rf"scalar 1\[{index}\] is .*cannot read NaN or inf"),
    ):
        codec.flatten((sample(space, seed), vector))


@settings(deadline=None, max_examples=50)
@given(space=SPACES, seed=st.integers(0, 1000), batch=st.integers(1, 3), data=st.data())
def test_a_batch_as_vector_environments_stack_it_is_flattened_row_by_row(space, seed, batch, data):
    codec = ObservationCodec(space)
    space.seed(seed)
    rows = [space.sample() for _ in range(batch)]
    stacked = concatenate(space, rows, create_empty_array(space, batch))
    assert codec.batch_of(stacked) == batch
    assert codec.batch_of(rows[0]) is None
    flat = codec.flatten_batch(stacked, batch)
    np.testing.assert_array_equal(flat, np.stack([codec.flatten(row) for row in rows]))
    for row, restored in zip(rows, flat, strict=True):
        assert_same(codec.unflatten(restored), row)
    read = np.array(data.draw(st.lists(st.booleans(), min_size=batch, max_size=batch)))
    np.testing.assert_array_equal(
        codec.flatten_batch(stacked, batch, read), np.where(read[:, None], flat, 0.0)
    )


def test_recorded_steps_are_flattened_as_the_live_ones_and_come_back():
    space = spaces.Dict({"gear": spaces.Discrete(3, start=-1), "pose": spaces.Box(-1, 1, (2,))})
    steps = {"gear": np.array([1, -1]), "pose": np.float32([[0.5, -0.5], [0.25, 1.0]])}
    flat = flatten_steps(space, steps)
    np.testing.assert_array_equal(flat, ObservationCodec(space).flatten_batch(steps, 2))
    assert_same(unflatten_steps(space, flat), steps)


def test_rows_that_nobody_reads_may_hold_anything_and_others_are_named():
    codec = ObservationCodec(spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))]))
    stacked = (np.array([9, 2]), np.array([[np.nan, 0.0], [0.25, 0.5]]))
    flat = codec.flatten_batch(stacked, 2, np.array([False, True]))
    np.testing.assert_array_equal(flat, [[0] * 5, [0, 0, 1, 0.25, 0.5]])
    with pytest.raises(ValueError, match=r"observation\[0\] holds the category 9.*integers 0 to 2"):
        codec.flatten_batch(stacked, 2)
    with pytest.raises(ValueError, match=r"observation scalar 1\[0\] of environment 0 is nan"):
        codec.flatten_batch((np.array([0, 2]), stacked[1]), 2)
    with pytest.raises(ValueError, match=r"has shape \(2,\); 3 environments of the space.*\(3,\)"):
        codec.flatten_batch(stacked, 3)


@pytest.mark.parametrize("value", [-1, 0, 4, 1.5, math.nan])
def test_a_category_that_does_not_exist_is_refused(value):
    with pytest.raises(ValueError, match=r"holds the category .* integers 1 to 3"):
        ObservationCodec(spaces.Discrete(3, start=1)).flatten(value)


def test_the_likeliest_category_of_an_imagined_vector_is_read():
    space = spaces.Dict({"gear": spaces.Discrete(3, start=-1), "lamps": spaces.MultiBinary(2)})
    imagined = np.float32([[0.1, 0.2, 0.6, 0.4, 0.9], [1.2, 0.8, -0.1, 0.5, -3.0]])
    read = ObservationCodec(space).unflatten(imagined)
    assert read["gear"].tolist() == [1, -1]
    assert read["lamps"].tolist() == [[0, 1], [1, 0]]
    policys = batched_observation(space, torch.from_numpy(imagined))  # what an SB3 policy is asked about
    assert_same(policys, read)
    assert policys["gear"].dtype == np.int64 and policys["lamps"].dtype == np.int8


def test_the_order_does_not_depend_on_the_order_of_the_observations_keys():
    space = spaces.Dict({"b": spaces.Box(-9, 9, (2,)), "a": spaces.Box(-9, 9, ())})
    codec = ObservationCodec(space)
    one = codec.flatten({"a": 1.0, "b": [2.0, 3.0]})
    other = codec.flatten({"b": [2.0, 3.0], "a": 1.0})
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"pose": np.zeros(2)}, r"lacks the key 'parts'; expected \['parts', 'pose'\]"),
        ({"pose": np.zeros(3), "parts": (0.0, 0.0)}, r"observation\['pose'\] has shape \(3,\).*\(2,\)"),
        ({"pose": np.zeros((2, 1)), "parts": (0.0, 0.0)}, r"observation\['pose'\] has shape \(2, 1\)"),
        ({"pose": np.zeros(2), "parts": (0.0,)}, r"observation\['parts'\] has 1 parts; expected 2"),
        ({"pose": np.zeros(2), "parts": (0.0, [1.0])}, r"observation\['parts'\]\[1\] has shape \(1,\)"),
        ({"pose": "upright", "parts": (0.0, 0.0)}, r"observation\['pose'\] is 'upright'; expected numbers"),
        ({"pose": [[1.0], [1.0, 2.0]], "parts": (0.0, 0.0)}, r"observation\['pose'\] is \[\[1.0\]"),
        ({"pose": np.zeros(2), "parts": 1.0}, "does not fit the space"),
        (np.zeros(5), r"observation is an array; expected a dict with the keys \['parts', 'pose'\]"),
        (3.0, "observation is 3.0; expected a dict with the keys"),
        (None, "observation is None; expected a dict with the keys"),
    ],
)
def test_an_observation_of_another_structure_is_refused_by_name(observation, message):
    number = spaces.Box(-1, 1, ())
    space = spaces.Dict({"pose": spaces.Box(-1, 1, (2,)), "parts": spaces.Tuple([number, number])})
    with pytest.raises(ValueError, match=message):
        ObservationCodec(space).flatten(observation)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Sequence(spaces.Discrete(3)),
            "no fixed number.*expected Box, Discrete.*TransformObservation",
        ),
        (spaces.Dict({"a": spaces.Tuple([spaces.Text(3)])}), r"observation_space\['a'\]\[0\].*Text"),
        (
            spaces.Box(0, 255, (64, 64, 3), np.uint8),
            "looks like images.*give the agent the .* state",
        ),
        (spaces.Box(0, 255, (84, 84), np.uint8), "looks like images"),
        (spaces.Dict({"camera": spaces.Box(0, 1, (3, 64, 64))}), r"observation_space\['camera'\].*images"),
        (spaces.Box(0, 1, (64, 64, 4), np.float64), "looks like images"),
        (spaces.Dict({}), "has no scalars"),
        (spaces.Box(-1, 1, (0,)), "has no scalars"),
    ],
)
def test_a_space_that_scalar_tokens_cannot_model_is_refused_with_the_remedy(space, message):
    with pytest.raises(ValueError, match=message):
        ObservationCodec(space)


def test_a_real_environments_observations_pass():
    env = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(ObservationCodec(env.observation_space).flatten(observation), observation)
    env.close()


# -- actions ----------------------------------------------------------------------------------------------


@st.composite
def action_boxes(draw: st.DrawFn) -> spaces.Box:
    shape = draw(SHAPES)
    kind = draw(st.sampled_from([np.float32, np.float64]))
    ends = st.floats(-1e6, 1e6, width=32)
    low = draw(hnp.arrays(kind, shape, elements=ends))
    span = draw(hnp.arrays(kind, shape, elements=st.floats(0.125, 1e6, width=32)))
    return spaces.Box(low, low + span, shape, kind)


def unit(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32))


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from([np.float32, np.float64]), lead=st.sampled_from([(), (2, 3)]))
def test_bounds_of_one_are_the_exact_identity_both_ways(data, kind, lead):
    codec = ActionCodec(spaces.Box(-1, 1, (3,), kind))
    action = data.draw(unit((*lead, 3)))
    assert codec.decode(action).dtype == kind
    np.testing.assert_array_equal(codec.decode(action), action)
    np.testing.assert_array_equal(codec.encode(action), action)


@settings(deadline=None)
@given(space=action_boxes(), data=st.data())
def test_what_is_decoded_is_in_the_space(space, data):
    codec = ActionCodec(space)
    action = data.draw(hnp.arrays(np.float32, (codec.dim,), elements=st.floats(-3, 3, width=32)))
    assert space.contains(codec.decode(action))
    for end, bound in ((-1.0, space.low), (1.0, space.high)):
        np.testing.assert_allclose(codec.decode(np.full(codec.dim, end)), bound, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(space=action_boxes(), data=st.data())
def test_actions_come_back_from_the_spaces_units(space, data):
    codec = ActionCodec(space)
    action = data.draw(unit((2, codec.dim)))
    decoded = codec.decode(action)
    assert decoded.shape == (2, *space.shape)
    back = codec.encode(decoded)
    assert back.dtype == np.float32
    # what the space's own floating point resolves: one spacing of its largest value, in halves of its range
    spacing = np.spacing(np.maximum(np.abs(space.low), np.abs(space.high))).astype(np.float64)
    slack = spacing / ((space.high.astype(np.float64) - space.low) / 2)
    assert (np.abs(back - action) <= 2**-23 + slack.reshape(-1)).all()


@settings(deadline=None)
@given(low=st.integers(-50, 50), span=st.integers(1, 100), data=st.data())
def test_integer_actions_are_rounded_to_the_nearest(low, span, data):
    space = spaces.Box(low, low + span, (2,), np.int64)
    codec = ActionCodec(space)
    action = np.array([data.draw(st.integers(low, low + span)) for _ in range(2)])
    np.testing.assert_array_equal(codec.decode(codec.encode(action)), action)
    assert space.contains(codec.decode(data.draw(unit((2,)))))


def test_actions_out_of_bounds_are_clipped():
    codec = ActionCodec(spaces.Box(np.float32([0, -4]), np.float32([2, 4])))
    np.testing.assert_array_equal(codec.decode(np.array([7.0, -7.0])), [2.0, -4.0])
    np.testing.assert_array_equal(codec.encode(np.array([7.0, -7.0])), [1.0, -1.0])


def test_the_widest_finite_bounds_do_not_overflow():
    most = np.finfo(np.float64).max
    codec = ActionCodec(spaces.Box(-most, most, (1,), np.float64))
    np.testing.assert_array_equal(codec.decode(np.array([[-1.0], [0.0], [1.0]])), [[-most], [0.0], [most]])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-np.inf, 1, (2,)), "infinite bounds.*TransformAction"),
        (spaces.Box(-1, np.inf, (2,)), "infinite bounds"),
        (
            spaces.Box(np.zeros(2, np.float32), np.float32([1, 0])),
            "not below its high.*TransformAction",
        ),
        (spaces.Box(-1, 1, (0,)), "nothing to choose"),
        (spaces.Dict({"a": spaces.Box(-1, 1)}), "Dict.*merge the parts into one Box or one MultiDiscrete"),
        (spaces.Tuple([spaces.Discrete(2)]), "Tuple.*merge the parts"),
        (spaces.MultiBinary(3), r"MultiDiscrete\(\[2\] \* n\)"),
        (spaces.Text(3), "expected a Box with finite bounds, Discrete or MultiDiscrete; wrap"),
        (spaces.Discrete(1), "nothing to choose"),
        (spaces.MultiDiscrete([1, 1]), "nothing to choose"),
    ],
)
def test_an_action_space_that_cannot_be_planned_over_is_refused_with_the_remedy(space, message):
    with pytest.raises(ValueError, match=message):
        action_codec(space)


def test_code_that_scales_actions_refuses_discrete_ones():
    with pytest.raises(ValueError, match=r"Discrete\(2\) is not continuous: expected a Box"):
        ActionCodec(spaces.Discrete(2))


def test_actions_of_another_shape_are_refused_not_broadcast():
    codec = ActionCodec(spaces.Box(-1, 1, (2, 3)))
    for wrong in (np.zeros(1), np.zeros((6, 1)), np.zeros(()), np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"expected \[\.\.\., 6\]"):
            codec.decode(wrong)
    for wrong in (np.zeros(6), np.zeros((3, 2)), np.zeros(())):
        with pytest.raises(ValueError, match=r"expected \[\.\.\., 2, 3\]"):
            codec.encode(wrong)


# -- discrete actions -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(space=categories(), seed=st.integers(0, 1000), lead=st.sampled_from([(), (2,)]))
def test_discrete_actions_are_components_from_zero_and_come_back(space, seed, lead):
    assume(np.max(space.n if isinstance(space, spaces.Discrete) else space.nvec) > 1)
    codec = action_codec(space)
    assert isinstance(codec, DiscreteActionCodec)
    action = np.broadcast_to(sample(space, seed), (*lead, *space.shape))
    encoded = codec.encode(action)
    assert encoded.dtype == np.int64 and encoded.shape == (*lead, codec.dim)
    assert (encoded >= 0).all() and (encoded < codec.choices).all()
    decoded = codec.decode(encoded)
    np.testing.assert_array_equal(decoded, action)
    assert decoded.dtype == space.dtype
    one = decoded[0] if lead else decoded
    assert space.contains(one)


def test_choice_zero_is_where_the_space_starts():
    assert action_codec(spaces.Discrete(3, start=5)).decode(np.array([0])) == 5
    codec = action_codec(spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [-2, 3]]))
    assert codec.choices == (2, 3, 4, 5)
    assert codec.decode(np.array([1, 2, 0, 4])).tolist() == [[1, 3], [-2, 7]]


@pytest.mark.parametrize("wrong", [[3], [-1], [0.0], [0, 0]])
def test_an_action_that_is_no_choice_is_refused(wrong):
    with pytest.raises(ValueError, match="action"):
        action_codec(spaces.Discrete(3)).decode(np.array(wrong))


@pytest.mark.parametrize("wrong", [[5, 0], [8, 1], [5.5, 0], [[5], [0]], 5])
def test_an_environments_action_that_is_not_of_its_space_is_refused(wrong):
    codec = action_codec(spaces.MultiDiscrete([3, 2], start=[5, 1]))
    assert codec.encode(np.array([6, 2])).tolist() == [1, 1]
    with pytest.raises(ValueError, match="action"):
        codec.encode(np.array(wrong))


WHOLE = [np.bool_, np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize("dtype", [*WHOLE, np.float16, np.float32, np.float64])
def test_a_box_of_any_dtype_is_decoded_to_the_nearest_inside_its_bounds(dtype):
    kind = np.dtype(dtype).kind
    ends = {"b": (False, True), "f": (-1.5, 2.5)}.get(kind)
    if ends is None:
        ends = (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = np.array([ends[0]], dtype), np.array([ends[1]], dtype)
    space = spaces.Box(low, high, dtype=dtype)
    codec = ActionCodec(space)
    for action, right in ((-1.0, low), (-2.0, low), (1.0, high), (2.0, high)):
        decoded = codec.decode(np.array([action]))
        assert decoded.dtype == space.dtype and decoded == right and decoded in space
    for action in np.linspace(-1, 1, 41):
        decoded = codec.decode(np.array([action]))
        exact = float(low[0]) / 2 + float(high[0]) / 2 + action * (float(high[0]) / 2 - float(low[0]) / 2)
        assert decoded in space
        nearest = 0.5 if kind in "biu" else 1e-3
        assert abs(float(decoded[0]) - exact) <= nearest + 1e-15 * abs(exact)


def test_half_of_what_is_sampled_is_true():
    space = spaces.Box(0, 1, (3,), np.bool_)
    decoded = ActionCodec(space).decode(np.random.default_rng(0).uniform(-1, 1, (2000, 3)))
    assert decoded.dtype == np.bool_ and np.abs(decoded.mean(axis=0) - 0.5).max() < 0.05
    np.testing.assert_array_equal(ActionCodec(space).encode(np.array([True, False, True])), [1, -1, 1])


@pytest.mark.parametrize("dtype", WHOLE)
def test_uniform_actions_reach_both_ends_of_whole_numbers(dtype):
    low, high = (0, 1) if dtype is np.bool_ else (2, 4)
    draw = UniformActions(spaces.Box(low, high, (50,), dtype))
    drawn = draw(None)
    assert drawn.dtype == dtype and set(drawn.tolist()) == set(range(low, high + 1))


def test_a_reward_function_is_given_whole_actions_where_the_space_has_no_others():
    spec = spec_of(spaces.Box(-1, 1, (1,)), spaces.Box(0, 3, (2,), np.int32))
    assert _physical(spec, torch.tensor([[-1.0, 0.2], [1.0, -0.4]])).tolist() == [[0.0, 2.0], [3.0, 1.0]]


# ---------------------------------------------------------------------- many categories


def test_many_categories_take_time_and_memory_of_their_number():
    codec = ObservationCodec(
        spaces.Tuple([spaces.Discrete(20000, start=-3), spaces.MultiDiscrete([5, 9000])])
    )
    tracemalloc.start()
    flat = codec.flatten((19996, np.array([0, 8999])))
    assert tracemalloc.get_traced_memory()[1] < 4e6  # bytes; 3.2e9 by way of a square matrix
    tracemalloc.stop()
    assert flat.nonzero()[0].tolist() == [19999, 20000, 29004]
    assert codec.unflatten(flat)[0] == 19996 and codec.unflatten(flat)[1].tolist() == [0, 8999]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(10**12),
        spaces.MultiDiscrete([1000] * 33),
        spaces.MultiBinary(2**15 + 1),
        spaces.Box(-1, 1, (2**15 + 1,)),
        spaces.Dict({"a": spaces.Discrete(2**15), "b": spaces.Box(-1, 1, (1,))}),
    ],
)
def test_an_observation_of_too_many_scalars_is_refused_with_the_remedy(space):
    with pytest.raises(TDMError, match=r"has \d+ scalars .*expected at most 32768: observe less"):
        ObservationCodec(space)


@pytest.mark.parametrize("space", [spaces.Discrete(10**12), spaces.MultiDiscrete([3, 2**15 + 1])])
def test_a_component_of_too_many_choices_is_refused_with_the_remedy(space):
    with pytest.raises(TDMError, match=r"component of \d+ choices.*expected at most 32768: split it"):
        action_codec(space)


def test_unsigned_choices_are_choices():
    codec = action_codec(spaces.MultiDiscrete([3, 3], dtype=np.uint64))
    assert codec.encode(np.array([[1, 2]], np.uint64)).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="none of the choices"):
        codec.encode(np.array([[1, 3]], np.uint64))
