import keras
import numpy as np
import pytest

from keras_mgs.experiments.networks import NETWORKS, alexnet, resnet18, transformer


@pytest.mark.parametrize(
    "name, shape, count",
    [
        ("lenet5", (28, 28, 1), 61_706),  # the paper's
        ("fcn", (28, 28, 1), 690_010),
        ("lenet5", (8, 8, 1), 21_386),
    ],
)
def test_a_network_has_the_documented_number_of_weights(name, shape, count):
    network = NETWORKS[name](shape, 10)
    assert network.count_params() == count
    assert network(np.zeros((2, *shape))).shape == (2, 10)


@pytest.mark.parametrize(
    "network, shape, count",
    [
        (alexnet, (28, 28, 1), 28_513_994),
        (resnet18, (32, 32, 3), 11_173_962),  # as torchvision's with this stem
        (transformer, (64, 64), 204_874),
    ],
)
def test_a_network_to_measure_has_the_documented_number_of_weights(network, shape, count):
    model = network(shape, 10)
    assert sum(w.value.shape.num_elements() for w in model.trainable_weights) == count
    assert model(np.zeros((2, *shape))).shape == (2, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_sits_between_all_fully_connected_layers(name):
    kinds = [type(la) for la in NETWORKS[name]((28, 28, 1), 10, dropout=0.5).layers]
    dense = [i for i, kind in enumerate(kinds) if kind is keras.layers.Dense]
    dropout = [i for i, kind in enumerate(kinds) if kind is keras.layers.Dropout]
    assert dropout == [i + 1 for i in dense[:-1]]


@pytest.mark.parametrize("name", NETWORKS)
def test_weight_decay_acts_on_every_kernel(name):
    network = NETWORKS[name]((28, 28, 1), 10, weight_decay=0.5)
    kernels = [w for w in network.trainable_weights if w.name == "kernel"]
    expected = 0.5 * sum(float(keras.ops.sum(k * k)) for k in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)  # float32
