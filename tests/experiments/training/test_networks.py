import keras
import numpy as np
import pytest

from keras_mgs.experiments.catalogue.names import NETWORK_OF
from keras_mgs.experiments.training.networks import (
    NETWORKS,
    alexnet,
    check,
    resnet,
    resnet18,
    transformer,
)


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
        (transformer, (64, 64), 208_906),
        (resnet, (28, 28, 1), 77_754),
    ],
)
def test_a_network_to_measure_has_the_documented_number_of_weights(network, shape, count):
    model = network(shape, 10)
    assert sum(w.value.shape.num_elements() for w in model.trainable_weights) == count
    assert model(np.zeros((2, *shape))).shape == (2, 10)


@pytest.mark.parametrize("name", ["lenet5", "fcn", "alexnet", "deep_fcn"])
def test_dropout_sits_between_all_fully_connected_layers(name):
    kinds = [type(la) for la in NETWORKS[name]((28, 28, 1), 10, dropout=0.5).layers]
    dense = [i for i, kind in enumerate(kinds) if kind is keras.layers.Dense]
    dropout = [i for i, kind in enumerate(kinds) if kind is keras.layers.Dropout]
    assert dropout == [i + 1 for i in dense[:-1]]


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_acts_in_training_alone_and_only_if_asked_for(name):
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    plain, dropped = (NETWORKS[name]((8, 8, 1), 10, dropout=rate) for rate in (0, 0.5))
    rates = [la.rate for la in dropped.layers if isinstance(la, keras.layers.Dropout)]
    assert rates and set(rates) == {0.5}
    assert not any(isinstance(la, keras.layers.Dropout) for la in plain.layers)
    assert np.array_equal(dropped(x), dropped(x))
    assert not np.array_equal(dropped(x, training=True), dropped(x, training=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_weight_decay_acts_on_every_kernel(name):
    network = NETWORKS[name]((8, 8, 1), 10, weight_decay=0.5)
    kernels = [w for w in network.trainable_weights if w.name.endswith("kernel")]
    expected = 0.5 * sum(float(keras.ops.sum(k * k)) for k in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)  # float32


@pytest.mark.parametrize("name", ["fcn", "mlp_layer_norm", "transformer", "gru"])
@pytest.mark.parametrize("shape", [(5,), (6, 3), (8, 8, 1)])
def test_a_network_without_convolutions_takes_tables_series_and_images(name, shape):
    network = NETWORKS[name](shape, 4)
    assert network(np.zeros((2, *shape))).shape == (2, 4)


@pytest.mark.parametrize("name", ["transformer", "gru"])
def test_the_steps_of_an_image_are_its_rows(name):
    image, series = (NETWORKS[name](shape, 4) for shape in ((6, 3, 2), (6, 6)))
    series.set_weights(image.get_weights())
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 2)).astype("float32")
    np.testing.assert_array_equal(image(x), series(x.reshape(2, 6, 6)))


@pytest.mark.parametrize("name", ["transformer", "gru"])
def test_the_order_of_steps_counts(name):
    network = NETWORKS[name]((6, 3), 4)
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    change = np.abs(network(x) - network(x[:, ::-1])).max()
    assert change > 1e-3  # float32 rounds to less than 1e-5


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(5,), (6, 3)])
def test_a_network_of_images_is_refused_for_tables_and_series_and_any_other_takes_them(name, shape):
    try:
        check(name, shape)
    except ValueError as error:
        assert f"samples of shape {shape}. Received: network='{name}'" in str(error)
        with pytest.raises(ValueError):
            NETWORKS[name](shape, 4)
    else:
        assert NETWORKS[name](shape, 4)(np.zeros((2, *shape))).shape == (2, 4)
    check(name, (8, 8, 1))


def test_the_default_network_of_every_kind_of_data_takes_them():
    for kind, shape in {"images": (8, 8, 1), "table": (5,), "series": (6, 3)}.items():
        check(NETWORK_OF[kind], shape)
