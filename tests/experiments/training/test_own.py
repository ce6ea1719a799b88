"""Networks of somebody's own, from .keras files."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import keras_mgs
from keras_mgs.experiments.training import own


def saved(path, *made, shape=(5,)):
    """A file with a Sequential model of these layers."""
    keras.Sequential([keras.Input(shape), *made]).save(path)
    return path


def test_the_weights_are_drawn_anew_by_the_seed_whatever_seed_the_layers_have(tmp_path):
    seeded = keras.initializers.GlorotUniform(seed=3)
    hidden = layers.Dense(4, "relu", kernel_initializer=seeded)
    path = saved(tmp_path / "own.keras", hidden, layers.Dropout(0.5, seed=3), layers.Dense(3))
    drawn = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        drawn.append(own.network(path)((5,), 3).get_weights())
    for first, again, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(first, again)
        assert first.ndim == 1 or not np.array_equal(first, other)  # biases are zeros
    assert not np.array_equal(drawn[0][0], keras.models.load_model(path).get_weights()[0])


@pytest.mark.parametrize(
    "ends",
    [
        [layers.Dense(3, "softmax")],
        [layers.Dense(3, "sigmoid")],
        [layers.Dense(3), layers.Activation("softmax")],
        [layers.Dense(3), layers.Softmax()],
        [layers.Dense(3)],
    ],
)
def test_a_softmax_or_sigmoid_at_the_end_is_left_out(ends, tmp_path):
    path = saved(tmp_path / "own.keras", layers.Dense(4, "relu"), *ends)
    found = own.read(path, (5,), 3)
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    (hidden, b), (kernel, bias) = np.reshape(np.array(found.get_weights(), dtype=object), (2, 2))
    np.testing.assert_allclose(
        found(x), np.maximum(x @ hidden + b, 0) @ kernel + bias, rtol=1e-5, atol=1e-5
    )


def test_functional_models_and_those_of_mgs_are_read_without_what_they_were_compiled_for(tmp_path):
    inputs = keras.Input((6, 2))
    y = keras.ops.softmax(layers.Dense(3)(layers.GRU(4, unroll=True)(inputs)))
    model = keras_mgs.MGSModel(keras.Model(inputs, y))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(tmp_path / "own.keras")
    found = own.read(tmp_path / "own.keras", (6, 2), 3)
    assert not found.compiled and not isinstance(found, keras_mgs.MGSModel)
    assert float(np.ptp(found(np.full((1, 6, 2), 9.0)))) > 0
    assert not np.allclose(np.sum(found(np.ones((4, 6, 2))), axis=1), 1)


@pytest.mark.parametrize(
    "shape, number, words",
    [
        ((4,), 3, ["samples of shape (4,)", "inputs [(5,)]"]),
        ((5, 1), 3, ["samples of shape (5, 1)", "inputs [(5,)]"]),
        ((5,), 2, ["and 2 outputs", "outputs [(3,)]"]),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_one_sentence(shape, number, words, tmp_path):
    path = saved(tmp_path / "own.keras", layers.Dense(3))
    with pytest.raises(ValueError, match="Received: network=.*own.keras") as caught:
        own.read(path, shape, number)
    assert all(word in str(caught.value) for word in words)


def test_a_network_of_two_inputs_is_one_sentence(tmp_path):
    inputs = [keras.Input((5,)), keras.Input((5,))]
    keras.Model(inputs, layers.Dense(3)(layers.add(inputs))).save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"an input .*of inputs \[\(5,\), \(5,\)\]"):
        own.read(tmp_path / "own.keras", (5,), 3)


def test_a_softmax_that_cannot_be_left_out_is_one_sentence(tmp_path):
    inputs = keras.Input((5,))
    path = tmp_path / "own.keras"
    keras.Model(inputs, layers.Reshape((3,))(layers.Dense(3, "softmax")(inputs))).save(path)
    with pytest.raises(ValueError, match="raw outputs.*Received.*made of a Softmax"):
        own.read(path, (5,), 3)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "text.keras").write_text("a network")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    for name in ("text", "other", "empty"):
        with pytest.raises(ValueError, match=rf"built model.*Received: .*{name}.keras.*\.save\("):
            own.read(tmp_path / f"{name}.keras", (5,), 3)
    with pytest.raises(FileNotFoundError, match="Received: network=.*none.keras"):
        own.read(tmp_path / "none.keras", (5,), 3)
