"""What fit, evaluate and predict report."""

import keras
import numpy as np
import oracles
import pytest
from fitting import batches, data, fitted, mean_square, network

from keras_mgs import MGSModel, TracePenalty


def test_history_has_the_training_metrics_and_no_twins_of_them_for_validation():
    history = fitted(
        MGSModel(network()), compiled={"metrics": ["mae"]}, validation_split=0.25, epochs=2
    )
    assert set(history) == {
        "loss", "mae", "mgs_penalty", "mgs_alpha", "val_loss", "val_mae",
    }  # fmt: skip


def test_penalty_in_history_is_the_mean_over_the_penalised_steps_and_is_repeated_without_one():
    """Three steps an epoch, one step in five penalised: 0, 5, 10 of 0 to 11."""
    mgs = MGSModel(network(), TracePenalty(0.01, "exact", every=5))
    history = fitted(mgs, keras.optimizers.SGD(0.05), epochs=4)["mgs_penalty"]
    _, penalties = oracles.train(
        network(),
        mean_square,
        keras.optimizers.SGD(0.05),
        batches(*data(), epochs=4),
        "exact",
        0.01,
        5,
    )
    np.testing.assert_allclose(
        history, [penalties[0], penalties[1], penalties[1], penalties[2]], rtol=1e-9
    )


def test_evaluate_and_predict_are_those_of_the_plain_model():
    x, y = data()
    mgs, plain = MGSModel(network()), network()
    for model in (mgs, plain):
        model.compile("sgd", "mse", metrics=["mae"])
    mgs.fit(x, y, verbose=0)
    plain.set_weights(mgs.model.get_weights())
    assert mgs.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(
        plain.evaluate(x, y, verbose=0, return_dict=True)
    )
    np.testing.assert_allclose(
        mgs.evaluate(x, y, verbose=0), plain.evaluate(x, y, verbose=0), rtol=1e-9
    )
    np.testing.assert_allclose(mgs.predict(x, verbose=0), plain.predict(x, verbose=0))
    np.testing.assert_allclose(mgs(x), plain(x))


def test_evaluate_before_training_gives_the_loss():
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    expected = np.mean((network()(x) - y) ** 2)
    assert mgs.evaluate(x, y, verbose=0, return_dict=True) == {"loss": pytest.approx(expected)}
    assert float(mgs.evaluate(x, y, verbose=0)) == pytest.approx(expected)
