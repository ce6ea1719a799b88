"""Every option of `compile` means with a penalty what it means without."""

import numpy as np
import pytest
from fitting import EPSILON, fitted, network, same_weights
from keras import layers
from problems import randomise, sequential

from keras_mgs import LogDetPenalty, MGSModel, TracePenalty

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]


def test_eager_steps_equal_compiled_ones():
    for penalty in (TracePenalty(0.01, every=2), LogDetPenalty(0.01, EPSILON)):
        eager, compiled = MGSModel(network(), penalty), MGSModel(network(), penalty)
        a = fitted(eager, compiled={"run_eagerly": True})
        b = fitted(compiled)
        same_weights(eager.model, compiled.model)
        np.testing.assert_allclose(a["mgs_penalty"], b["mgs_penalty"])


def test_xla_steps_equal_plain_ones():
    # Exact, because the random signs are the device's own under XLA.
    a, b = (MGSModel(network(), TracePenalty(0.01, "exact", every=2)) for _ in range(2))
    fitted(a, compiled={"jit_compile": True})
    fitted(b, compiled={"jit_compile": False})
    same_weights(a.model, b.model)


def test_random_projection_and_automatic_alpha_run_under_xla():
    mgs = MGSModel(network())
    history = fitted(mgs, compiled={"jit_compile": True})
    assert np.isfinite(history["loss"]).all()
    assert history["mgs_alpha"][0] > 0


def test_several_steps_per_execution_equal_single_ones():
    a, b = (MGSModel(network(), TracePenalty(0.01, every=2)) for _ in range(2))
    first = fitted(a, compiled={"steps_per_execution": 3})
    second = fitted(b)
    same_weights(a.model, b.model)
    assert first.keys() == second.keys()
    np.testing.assert_allclose(first["mgs_penalty"], second["mgs_penalty"])


def test_the_model_s_own_regularisation_is_part_of_the_loss():
    def regularised():
        model = sequential((3,), layers.Dense(4, "tanh", kernel_regularizer="l2"), layers.Dense(2))
        randomise(model, np.random.default_rng(0))
        return model

    mgs, plain = MGSModel(regularised(), TracePenalty(0)), regularised()
    np.testing.assert_allclose(fitted(mgs)["loss"], fitted(plain)["loss"], rtol=1e-12)
    same_weights(mgs.model, plain, 1e-12)
