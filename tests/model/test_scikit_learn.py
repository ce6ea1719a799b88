"""scikit-learn's tools take an MGSModel by Keras' own wrappers."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.wrappers import SKLearnClassifier, SKLearnRegressor
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from keras_mgs import MGSModel

NAMES = np.array(["left", "middle", "right"])
TRAINING = {"epochs": 20, "verbose": 0}


def data():
    x = np.random.default_rng(0).normal(size=(120, 4))
    return x, np.digitize(x[:, 0], [-0.5, 0.5])


def build(X, y, alpha="auto", ending=None):
    network = [layers.Dense(16, "relu"), layers.Dense(y.shape[1], ending)]
    model = MGSModel(keras.Sequential([keras.Input(X.shape[1:]), *network]), alpha=alpha)
    loss = keras.losses.CategoricalCrossentropy(from_logits=ending is None)
    model.compile(keras.optimizers.Adam(0.02), loss)
    return model


@pytest.mark.parametrize("ending", [None, "softmax"])
def test_predictions_are_classes_with_and_without_a_softmax(ending):
    x, y = data()
    wrapper = SKLearnClassifier(build, model_kwargs={"ending": ending})
    scores = cross_val_score(wrapper, x, NAMES[y], cv=2, params=TRAINING)
    assert (scores > 0.7).all()  # a third by chance
    wrapper.fit(x, NAMES[y], **TRAINING)
    assert (wrapper.predict(x) == NAMES[y]).mean() > 0.8
    assert isinstance(wrapper.model_, MGSModel)


def test_a_search_gives_every_alpha_to_its_models():
    x, y = data()
    grid = {"model_kwargs": [{"alpha": "auto"}, {"alpha": 1e3}]}  # the second stops all learning
    search = GridSearchCV(SKLearnClassifier(build), grid, cv=2).fit(x, y, **TRAINING)
    assert search.best_params_ == {"model_kwargs": {"alpha": "auto"}}
    auto, strong = search.cv_results_["mean_test_score"]
    assert auto > strong + 0.2


@pytest.mark.parametrize("alpha", ["auto", 0.25])
def test_a_compiled_model_is_copied_for_each_fit(alpha):
    x, y = data()
    mgs = build(x, np.eye(3)[y], alpha)
    before = mgs.get_weights()
    copy = keras.models.clone_model(mgs)
    assert (copy.model.layers[0].kernel.numpy() != mgs.model.layers[0].kernel.numpy()).any()
    wrapper = clone(SKLearnClassifier(mgs)).fit(x, y, epochs=1, verbose=0)
    assert wrapper.model_ is not mgs and isinstance(wrapper.model_, MGSModel)
    assert wrapper.model_.alpha == alpha  # "auto" waits for more steps than these
    for a, b in zip(before, mgs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_regression_returns_numbers():
    x, _ = data()

    def regression(X, y):
        network = [layers.Dense(16, "relu"), layers.Dense(1)]
        model = MGSModel(keras.Sequential([keras.Input(X.shape[1:]), *network]))
        model.compile(keras.optimizers.Adam(0.02), "mse")
        return model

    wrapper = SKLearnRegressor(regression).fit(x, 3 * x[:, 0], **TRAINING)
    assert wrapper.predict(x).shape == (120,)
    assert wrapper.score(x, 3 * x[:, 0]) > 0.7
