"""Every kind of Keras model trains with a penalty."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from problems import sequential

from keras_mgs import LogDetPenalty, MGSModel, TracePenalty

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]


@pytest.mark.parametrize("penalty", [TracePenalty(0.01, "exact"), LogDetPenalty(0.01), "trace"])
def test_several_inputs_and_outputs_with_a_loss_each(penalty):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    hidden = layers.Dense(3, "tanh")(ops.concatenate([a, b], axis=1))
    outputs = {"one": layers.Dense(2, name="one")(hidden), "two": layers.Dense(1)(hidden)}
    mgs = MGSModel(keras.Model({"a": a, "b": b}, outputs), penalty)
    mgs.compile("sgd", {"one": "mse", "two": "mae"}, loss_weights={"one": 1.0, "two": 0.5})
    x = {"a": np.ones((8, 3)), "b": np.ones((8, 2))}
    y = {"one": np.ones((8, 2)), "two": np.ones((8, 1))}
    history = mgs.fit(x, y, verbose=0, validation_data=(x, y)).history
    assert {"loss", "val_loss", "mgs_penalty", "mgs_alpha"} <= set(history)
    assert np.isfinite([v for values in history.values() for v in values]).all()
    assert not any(key.startswith("val_mgs") for key in history)


def test_recurrent_models_train_with_the_default_penalty():
    mgs = MGSModel(sequential((3, 2), layers.LSTM(2), layers.Dense(1)))
    mgs.compile("sgd", "mse")
    history = mgs.fit(np.ones((8, 3, 2)), np.ones((8, 1)), verbose=0).history
    assert np.isfinite(history["loss"]).all()
