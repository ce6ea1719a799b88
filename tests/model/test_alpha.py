"""The weight of the penalty: given, automatic, set."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import batches, data, fitted, mean_square, network

from keras_mgs import MGSModel, TracePenalty
from keras_mgs.penalties import SHARE

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]


def first_loss_and_trace():
    """The loss and tr K of the first batch."""
    (x, y), model = next(batches(*data(), 1)), network()
    f = oracles.flat(model(x))
    return float(mean_square(y, f)), (oracles.jacobian(model, x) ** 2).sum()


def test_automatic_alpha_is_the_share_of_loss_over_trace_and_stays():
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    assert mgs.alpha == "auto"
    history = fitted(mgs, epochs=3)
    loss, trace = first_loss_and_trace()
    np.testing.assert_allclose(mgs.alpha, SHARE * loss / trace, rtol=1e-9)
    assert history["mgs_alpha"] == [mgs.alpha] * 3


def test_automatic_alpha_shortens_a_step_over_twice_as_long_as_the_mean():
    mgs = MGSModel(network())
    steps = [[tf.constant([3.0, 0.0]) * k, tf.constant(4.0) * k] for k in (1, 1.5, 9)]
    shortened = [float(mgs._shorten(step)[1]) for step in steps]
    mean = 0.8 * 5 + 0.2 * 7.5  # of the lengths of the first two, which stay as they are
    np.testing.assert_allclose(shortened, [4, 6, 2 * mean * 4 / 5], rtol=1e-6)  # float32


def test_automatic_alpha_by_random_projection_is_near_the_exact_one():
    mgs = MGSModel(network())
    fitted(mgs, epochs=1)
    loss, trace = first_loss_and_trace()
    # The mean of 64 projections: the standard error of tr K is at most sqrt(2 / 64) of it.
    np.testing.assert_allclose(mgs.alpha, SHARE * loss / trace, rtol=4 * np.sqrt(2 / 64))


@pytest.mark.parametrize("alpha", [0, 1e-5, 3, 0.1])
def test_a_given_alpha_is_taken_as_it_is(alpha):
    mgs = MGSModel(network(), alpha=alpha)
    assert mgs.alpha == alpha
    history = fitted(mgs, epochs=2)
    assert mgs.alpha == alpha
    assert history["mgs_alpha"] == [alpha, alpha]


def test_alpha_in_single_precision_is_the_number_that_was_given():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    mgs = MGSModel(network(), alpha=1e-5)
    assert mgs.alpha == pytest.approx(1e-5, rel=1e-7)
    assert mgs.get_config()["penalty"]["config"]["alpha"] == 1e-5


def test_alpha_can_be_set_and_is_used():
    mgs = MGSModel(network())
    mgs.alpha = 0.25
    assert fitted(mgs)["mgs_alpha"] == [0.25, 0.25]


def test_two_models_may_share_a_penalty():
    penalty = TracePenalty("auto", "exact")
    a, b = MGSModel(network(), penalty), MGSModel(network(), penalty)
    fitted(a, epochs=1)
    assert b.alpha == "auto"
    assert penalty.alpha == "auto"
