"""Single, double and mixed precision, and loss scaling."""

import keras
import numpy as np
import pytest
from fitting import fitted, network, same_weights
from keras import layers
from problems import sequential

from keras_mgs import LogDetPenalty, MGSModel, TracePenalty

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("penalty", ["trace", LogDetPenalty(1e-3), TracePenalty("auto", "exact")])
@pytest.mark.parametrize("head", [None, "float32"])
def test_single_and_mixed_precision_train(policy, penalty, head):
    keras.config.set_floatx("float32")  # the fixture `float64` restores both
    keras.config.set_dtype_policy(policy)
    mgs = MGSModel(sequential((3,), layers.Dense(4, "tanh"), layers.Dense(2, dtype=head)), penalty)
    history = fitted(mgs)
    assert np.isfinite(history["loss"]).all()
    assert mgs.alpha > 0


def test_loss_scaling_does_not_change_the_step():
    a, b = (MGSModel(network(), TracePenalty(0.01, "exact", every=2)) for _ in range(2))
    fitted(a, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), 8.0))
    fitted(b, keras.optimizers.SGD(0.05))
    same_weights(a.model, b.model)
