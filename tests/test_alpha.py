"""The rule behind alpha="auto", beside a plain program, and what must hold whatever it meets."""

import math

import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mgs import alpha as alphas


def follow(steps, every=8, epoch=math.inf):
    """α after each penalised step, as the package computes it.

    A step is (loss, own, dealt, ‖∇ loss‖, ‖∇ penalty‖); so many of them are an `epoch`.
    """
    state, found = tf.zeros(len(alphas.State._fields), "float64"), []
    for i, step in enumerate(np.array(steps)):
        state, alpha = _update(state, tf.constant(step), every, tf.constant(i // epoch))
        found.append(float(alpha))
    return found


@tf.function(autograph=False)
def _update(state, step, every, epochs):
    *losses, loss_length, penalty_length = tf.unstack(step)
    state = alphas.update(
        alphas.State(*tf.unstack(state)), losses, loss_length, penalty_length, every
    )
    return tf.stack(state), alphas.choose(state, alphas.share(epochs, state.count * every))


def plainly(steps, every=8, epoch=math.inf):
    """The same, by a plain program."""
    rule = oracles.AutomaticAlpha(every)
    return [rule.after(step[:3], *step[3:], i // epoch) for i, step in enumerate(steps)]


def learning(n=120, r=1e-3, noise=0.0, seed=0):
    """Steps of a network that learns: the loss falls below that on dealt labels."""
    rng = np.random.default_rng(seed)
    own = 1 + np.exp(-np.arange(n) / 20)
    lengths = np.exp(rng.normal(size=(n, 2)) * noise)
    return np.stack([own, own, 2 + 0 * own, lengths[:, 0], lengths[:, 1] / r], 1)


FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)  # TensorFlow takes those for zeros
LENGTH = st.floats(0, 1e8, allow_subnormal=False) | st.just(math.inf) | st.just(math.nan)
STEPS = st.lists(st.tuples(FINITE, FINITE, FINITE, LENGTH, LENGTH), min_size=1, max_size=40)


@pytest.mark.parametrize("every", [1, 2, 8, 50])
def test_the_rule_is_what_a_plain_program_says(every):
    steps = learning(200, noise=0.3)
    for epoch in (math.inf, 100, 3):
        found = follow(steps, every, epoch)
        np.testing.assert_allclose(found, plainly(steps, every, epoch), rtol=1e-9)
        assert found[-1] > 0


@settings(deadline=None, max_examples=60)
@given(STEPS, st.sampled_from([1, 8]))
def test_the_rule_is_what_a_plain_program_says_of_any_steps(steps, every):
    learnt = [tuple(step) for step in learning(12 * 8 // every)]  # or it would never act
    steps = learnt + steps
    found = follow(steps, every)
    np.testing.assert_allclose(found, plainly(steps, every), rtol=1e-9, atol=1e-300)
    ratios = [a / b for *_, a, b in steps if 0 < a < math.inf and 0 < b < math.inf]
    bound = alphas.SHARE * alphas.HEADROOM * max(ratios)
    assert all(0 <= alpha <= bound * (1 + 1e-9) for alpha in found)


def test_alpha_is_zero_until_labels_are_learnt():
    still = learning(100)
    still[:, :2] = 2.0  # the loss stays that on dealt labels
    assert not np.any(follow(still))
    assert follow(learning(100))[-1] > 0


def test_alpha_waits_while_r_moves_as_long_again_as_labels_took_to_be_learnt():
    moving = learning(60)
    moving[:20, :2] = 2.0  # so they are learnt from the 21st measurement on, or soon after
    moving[:, 4] *= np.exp(-0.3 * np.arange(60))
    first = np.flatnonzero(follow(moving))[0]
    assert 40 <= first < 50
    moving[:, 4] = 1e3
    assert 20 < np.flatnonzero(follow(moving))[0] < 25


def test_alpha_comes_to_its_share_of_r():
    """500 steps count as an epoch where none ends."""
    steady = learning(1200)
    for epoch, epochs in ((math.inf, 1200 * 8 / 500), (20, 59)):
        share = 0.6 * epochs / (epochs + 3)
        left = 0.5**0.5  # of the loss on dealt labels
        np.testing.assert_allclose(follow(steady, epoch=epoch)[-1], share * left * 1e-3, rtol=1e-2)


def test_alpha_rises_ever_more_slowly_where_r_rises_with_it():
    """Not by the same factor in the same time: with a memory of half the training, by a power."""
    steps, reached = learning(2000), {}
    state = tf.zeros(len(alphas.State._fields), "float64")
    for i, step in enumerate(steps):
        ratio = alphas.State(*state.numpy()).ratio
        if ratio:  # r is 1.2 times what α follows
            step[4] = step[3] / (1.2 * math.exp(ratio))
        state, _ = _update(state, tf.constant(step), 8, tf.constant(0))
        reached[i + 1] = alphas.State(*state.numpy()).ratio
    early, late = reached[1000] - reached[500], reached[2000] - reached[1000]
    np.testing.assert_allclose([early, late], 2 * math.log(1.2) * math.log(2), rtol=2e-2)


def test_alpha_vanishes_with_the_gradient_of_the_loss():
    clean = learning(1000)
    clean[100:, 3] *= np.exp(-np.arange(900) / 100)
    found = follow(clean)
    assert found[-1] < 0.01 * max(found)


def test_alpha_yields_where_labels_are_learnt_no_more():
    dying = learning(300)
    dying[100:, 0] = dying[100:, 1] = np.minimum(1 + 0.05 * np.arange(200), 2)
    dying[100:, 4] *= np.exp(-0.05 * np.arange(200))  # r rises twentythousandfold
    found = follow(dying)
    assert max(found) > 0
    assert found[-1] < 1e-3 * max(found)


def test_alpha_yields_with_the_fourth_power_of_what_is_still_learnt():
    """From 1 below a loss of 2 on dealt labels, to 0.5 below, where more of it is left."""
    forgetting = learning(1000)
    forgetting[200:, :2] = 1.5
    np.testing.assert_allclose(
        follow(forgetting)[-1], follow(learning(1000))[-1] / 2**4 * 1.5**0.5, rtol=2e-2
    )


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_alpha_scales_with_the_loss(factor):
    steps = learning(100, noise=0.3)
    scaled = steps * [factor, factor, factor, factor, 1]
    np.testing.assert_allclose(follow(scaled), factor * np.array(follow(steps)), rtol=1e-9)


def test_a_loss_may_be_negative():
    """Nothing then tells how much of it is left; what is learnt is within 1e-3 of its peak."""
    steps = learning(1000)
    steps[:, :3] -= 5.0
    np.testing.assert_allclose(follow(steps)[-1], follow(learning(1000))[-1] / 0.5**0.5, rtol=1e-3)


def test_alpha_falls_with_the_square_root_of_the_loss_that_is_left():
    steps = learning(1000)
    steps[300:, :2] = 0.02
    np.testing.assert_allclose(follow(steps)[-1], follow(learning(1000))[-1] * 0.02**0.5, rtol=2e-2)


def test_without_other_labels_alpha_goes_by_the_loss_at_the_start():
    steps = learning(100)
    steps[:, 2] = steps[:, 1]
    assert follow(steps)[-1] > 0
    steps[:, :3] = 2.0
    assert not np.any(follow(steps))


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_tells_nothing_changes_nothing(column, value):
    steps = learning(100, noise=0.3)
    broken = np.insert(steps, [15, 50], steps[:2], axis=0)
    broken[[15, 51], column] = value
    np.testing.assert_allclose(np.delete(follow(broken), [15, 51]), follow(steps), rtol=1e-12)


def test_a_step_over_twice_as_long_as_the_mean_is_shortened():
    mean, kept = np.float64(0), []
    for length in (5.0, 7.5, 45.0):
        share, mean = map(np.float64, alphas.shorten(mean, np.float64(length)))
        kept.append(share * length)
    np.testing.assert_allclose(kept, [5, 7.5, 2 * (0.8 * 5 + 0.2 * 7.5)], rtol=1e-12)
