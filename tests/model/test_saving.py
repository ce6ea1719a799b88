"""What is saved comes back and goes on as if it had stayed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import BATCH, data, fitted, network, same_weights

from keras_mgs import LogDetPenalty, LossGradientPenalty, MGSModel, TracePenalty

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]


@pytest.mark.parametrize(
    "penalty",
    [
        "trace",
        TracePenalty(0.01, "exact", every=3),
        LogDetPenalty(0.01, 1e-4, 2),
        LossGradientPenalty(0.1, "inputs", 2),
    ],
)
def test_a_saved_model_comes_back_whole_and_goes_on_as_if_it_had_stayed(penalty, tmp_path):
    mgs = MGSModel(network(), penalty, name="mine")
    fitted(mgs, "adam", epochs=1)
    alpha = mgs.alpha
    assert alpha != "auto"
    mgs.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(back, MGSModel)
    assert back.name == "mine"
    assert back.alpha == alpha
    assert type(back.penalty) is type(mgs.penalty)
    assert back.get_config()["penalty"] == mgs.get_config()["penalty"]
    assert back.penalty.get_config() == mgs.penalty.get_config()
    assert back.get_config()["alpha"] == back.alpha == alpha
    same_weights(back.model, mgs.model, 0)
    x, y = data()
    for model in (mgs, back):
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    same_weights(back.model, mgs.model)
    assert back.alpha == alpha


def test_saved_weights_carry_alpha(tmp_path):
    mgs = MGSModel(network())
    fitted(mgs, epochs=1)
    mgs.save_weights(tmp_path / "model.weights.h5")
    back = MGSModel(network())
    assert back.alpha == "auto"
    back.load_weights(tmp_path / "model.weights.h5")
    assert back.alpha == mgs.alpha
    assert fitted(back)["mgs_alpha"] == [mgs.alpha] * 2


def test_a_model_saved_before_training_is_still_automatic(tmp_path):
    mgs = MGSModel(network())
    mgs.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").alpha == "auto"


def test_configuration_round_trip():
    mgs = MGSModel(network(), TracePenalty(0.5, "exact", 2, 3), name="mine")
    back = MGSModel.from_config(mgs.get_config())
    assert back.get_config() == mgs.get_config()
    assert repr(back.penalty) == repr(mgs.penalty)
    clone = keras.models.clone_model(mgs)
    assert isinstance(clone, MGSModel)


def test_an_exported_model_computes_what_the_network_does(tmp_path):
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    mgs.fit(x, y, batch_size=BATCH, verbose=0)
    mgs.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x), mgs.model(x), rtol=1e-12)
