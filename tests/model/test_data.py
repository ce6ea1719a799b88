"""Every kind of data that `fit` takes."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import BATCH, N, data, fitted, mean_square, network, same_weights

from keras_mgs import MGSModel, TracePenalty

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]


def test_train_on_batch_counts_the_steps_too():
    x, y = data(BATCH)
    mgs = MGSModel(network(), TracePenalty(0.01, "exact", every=2))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    logs = [mgs.train_on_batch(x, y, return_dict=True) for _ in range(3)]
    assert set(logs[0]) == {"loss", "mgs_penalty", "mgs_alpha"}
    reference = network()
    oracles.train(
        reference, mean_square, keras.optimizers.SGD(0.05), [(x, y)] * 3, "exact", 0.01, 2
    )
    same_weights(mgs.model, reference)


def test_sample_weight_and_class_weight_are_those_of_the_plain_model():
    x, _ = data()
    labels = np.arange(N) % 2
    for extra in ({"sample_weight": np.linspace(0, 1, N)}, {"class_weight": {0: 1.0, 1: 3.0}}):
        mgs, plain = MGSModel(network(), TracePenalty(0)), network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for model in (mgs, plain):
            model.compile("sgd", loss)
            model.fit(x, labels, shuffle=False, verbose=0, batch_size=BATCH, **extra)
        same_weights(mgs.model, plain, 1e-12)


def test_fit_takes_its_arguments_by_position_as_keras_does():
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    assert len(mgs.fit(x, y, BATCH, 2, 0).history["loss"]) == 2


@pytest.mark.parametrize("remainder", [False, True])
def test_a_dataset_trains_as_its_arrays_do(remainder):
    x, y = data()
    a, b = (MGSModel(network(), TracePenalty(0.01, every=2)) for _ in range(2))
    pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=remainder)
    a.compile("sgd", "mse")
    a.fit(pairs, epochs=2, verbose=0, validation_data=pairs)
    fitted(b)
    same_weights(a.model, b.model)
