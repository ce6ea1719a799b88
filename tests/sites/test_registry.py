"""Every layer of a family is explained by the rule of its class."""

import pytest
from problems import (
    ATTENTION,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    EINSUM,
    EMBEDDING,
    LORA,
    NORMALIZATION,
    RECURRENT,
    TRANSPOSED,
    announced,
    make,
)

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")
FAMILIES = {
    **DENSE,
    **EINSUM,
    **ATTENTION,
    **LORA,
    **CONVOLUTION,
    **TRANSPOSED,
    **DEPTHWISE,
    **EMBEDDING,
    **NORMALIZATION,
    **RECURRENT,
}
# `RNN` runs stacked cells once more, for nothing: a call that leads nowhere is not explained.
# A masked sequence read backwards cannot be unrolled, for Keras' outputs would be others.
WITHOUT_A_RULE = {"cells one above the other", "bidirectional with a mask"}


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in WITHOUT_A_RULE])
def test_every_layer_is_explained_by_the_rule_of_its_class(name):
    model, x = make(name)
    for message in announced(lambda: keras_mgs.trace(model, x)):  # but for the tests' own layer
        layers = message.split("for: ")[1].split(". The result")[0].split(", ")
        assert all(layer.endswith("(Scale)") for layer in layers)
