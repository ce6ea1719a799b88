"""The exact functions take the inputs that `fit` takes, and equal brute force on them."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import randomise, sequential

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")
N = 5
RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(N, 6)) * (RNG.random((N, 6)) < 0.4)
WORDS = ["red", "green", "blue"]
TEXT = np.array(["red green", "blue", "green blue red", "green red", "black"])


class AddIfThere(layers.Layer):
    def build(self, *shapes):
        self.dense = layers.Dense(2)
        self.dense.build((None, 6))

    def call(self, x, extra=None):
        return self.dense(x if extra is None else x + extra)

    def compute_output_shape(self, *shapes):
        return (None, 2)


class NeedsSparse(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(6, 2))

    def call(self, x):
        return tf.sparse.sparse_dense_matmul(x, self.kernel)

    def compute_output_shape(self, shape):
        return (shape[0], 2)


def randomised(model):
    randomise(model, np.random.default_rng(1))
    return model


def plain():
    return sequential((6,), layers.Dense(3, "tanh"), layers.Dense(2))


def sparse(*stack):
    stack = stack or (layers.Dense(3, "tanh"), layers.Dense(2))
    return keras.Sequential([keras.Input((6,), sparse=True), *stack])


def optional():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b", optional=True)
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(ops.tanh(AddIfThere()(a, b))))


def text():
    words = layers.TextVectorization(10, output_sequence_length=3, vocabulary=WORDS)
    x = keras.Input((), dtype="string")
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(layers.Embedding(10, 2)(words(x)))))


def several():
    a, b = keras.Input((6,), name="a"), keras.Input((1,), name="b")
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(layers.Concatenate()([a, b])))


def two_of_three():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    c = keras.Input((6,), name="c", optional=True)
    hidden = layers.Concatenate()([AddIfThere()(a, c), b])
    return keras.Model({"a": a, "b": b, "c": c}, layers.Dense(2)(hidden))


def of_complex():
    x = keras.Input((6,), dtype="complex128")
    return keras.Model(x, layers.Dense(2)(layers.Lambda(lambda t: tf.abs(t) ** 2)(x)))


def scipy_sparse(kind):
    import scipy.sparse

    return getattr(scipy.sparse, kind)(DENSE)


def pandas():
    import pandas

    return pandas


def tensor():
    return tf.sparse.from_dense(DENSE)


# name -> a model, its inputs as they are given, and as brute force takes them.
GIVEN = {
    "SparseTensor": (sparse, tensor, tensor),
    "SparseTensor for a dense input": (plain, tensor, lambda: DENSE),
    "SciPy, rows": (sparse, lambda: scipy_sparse("csr_matrix"), tensor),
    "SciPy, pairs": (sparse, lambda: scipy_sparse("coo_array"), tensor),
    "sparse Dataset": (
        sparse,
        lambda: tf.data.Dataset.from_tensor_slices((tensor(), np.zeros(N))).batch(2),
        tensor,
    ),
    "a layer that takes sparse tensors alone": (
        lambda: sparse(NeedsSparse(), layers.Activation("tanh"), layers.Dense(2)),
        tensor,
        tensor,
    ),
    "optional input left out": (
        optional,
        lambda: {"a": DENSE, "b": None},
        lambda: {"a": tf.constant(DENSE), "b": None},
    ),
    "optional input given": (
        optional,
        lambda: {"a": DENSE, "b": DENSE},
        lambda: {"a": tf.constant(DENSE), "b": tf.constant(DENSE)},
    ),
    "strings": (text, lambda: TEXT, lambda: tf.constant(TEXT)),
    "strings as objects": (text, lambda: TEXT.astype(object), lambda: tf.constant(TEXT)),
    "bytes": (text, lambda: TEXT.astype("S"), lambda: tf.constant(TEXT)),
    "a tensor of strings": (text, lambda: tf.constant(TEXT), lambda: tf.constant(TEXT)),
    "DataFrame": (plain, lambda: pandas().DataFrame(DENSE), lambda: DENSE),
    "DataFrame and Series": (
        several,
        lambda: {"a": pandas().DataFrame(DENSE), "b": pandas().Series(DENSE[:, 0])},
        lambda: {"a": tf.constant(DENSE), "b": tf.constant(DENSE[:, :1])},
    ),
    "complex numbers, declared": (of_complex, lambda: DENSE + 1j, lambda: DENSE + 1j),
}


@pytest.mark.filterwarnings("ignore:K is numerically singular")
@pytest.mark.parametrize("name", GIVEN)
def test_functions_equal_brute_force(name):
    build, given, plainly = GIVEN[name]
    model = randomised(build())
    j = oracles.jacobian(model, plainly())
    k = oracles.kernel(j)
    np.testing.assert_allclose(keras_mgs.jacobian(model, given()), j, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        keras_mgs.kernel(model, given(), batch_size=2), k, rtol=1e-9, atol=1e-12
    )
    traces = keras_mgs.sample_traces(model, given(), batch_size=3)
    np.testing.assert_allclose(traces, (j**2).sum((1, 2)), rtol=1e-9)
    value = keras_mgs.log_det(model, given(), epsilon=1e-3)
    np.testing.assert_allclose(value, oracles.log_det(k, 1e-3), rtol=1e-9)


@pytest.mark.parametrize("name", GIVEN)
def test_metrics_explain_and_penalties_take_them_too(name, capsys):
    build, given, plainly = GIVEN[name]
    model = randomised(build())
    expected = (oracles.jacobian(model, plainly()) ** 2).sum()
    callback = keras_mgs.MGSMetrics(given())
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs := {})
    assert logs["mgs_trace"] == pytest.approx(expected, rel=1e-9)
    keras_mgs.explain(model, given())
    assert "2 outputs" in capsys.readouterr().out
    _, penalty = keras_mgs.TracePenalty(1.0, "exact", every=1)(model, given(), 0, training=False)
    assert float(penalty) == pytest.approx(expected, rel=1e-9)


WRONG = {
    "strings for numbers": (plain, lambda: np.full((N, 6), "a"), "hold numbers"),
    "a tensor of strings for numbers": (plain, lambda: tf.fill((N, 6), "a"), "hold numbers"),
    "numbers for strings": (text, lambda: np.ones(N), "hold strings"),
    "mixed objects": (text, lambda: np.array(["red", 1.0], object), "hold strings"),
    "complex numbers": (plain, lambda: DENSE + 1j, "real numbers"),
    "a complex tensor": (plain, lambda: tf.constant(DENSE + 1j), "real numbers"),
    "a symbolic input": (plain, lambda: keras.Input((6,)), "KerasTensor"),
    "an input left out": (several, lambda: {"a": DENSE, "b": None}, "None"),
    "an input left out beside an optional one": (
        two_of_three,
        lambda: {"a": DENSE, "b": None, "c": None},
        "None",
    ),
    "a ragged list": (plain, lambda: [[1.0, 2.0], [1.0]], "np.asarray"),
    "object rows": (plain, lambda: np.array([[1.0], [1.0, 2.0]], object), "hold numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_inputs_are_errors_that_say_so(name):
    build, given, words = WRONG[name]
    model = build()
    with pytest.raises(TypeError, match=words) as caught:
        keras_mgs.trace(model, given())
    assert "`x`" in str(caught.value)


@pytest.mark.parametrize("value", ["False", 1, None, [True], object(), 0.5])
def test_training_is_true_or_false(value):
    calls = [
        *(
            lambda f=f: f(plain(), DENSE, training=value)
            for f in (
                keras_mgs.jacobian, keras_mgs.kernel, keras_mgs.trace, keras_mgs.sample_traces,
                keras_mgs.log_det, keras_mgs.eigenvalues, keras_mgs.explain,
            )
        ),
        lambda: keras_mgs.MGSMetrics(DENSE, training=value),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(TypeError, match="`training`"):
            call()


class Returning(keras.Model):
    def __init__(self, transform):
        super().__init__()
        self.dense, self.transform = layers.Dense(2), transform

    def call(self, x):
        return self.transform(self.dense(x))


OUTPUTS = {
    "None": (lambda t: None, "None"),
    "none at all": (lambda t: {}, "at least one output"),
    "one of them None": (lambda t: [t, None], "None"),
    "ragged": (lambda t: tf.RaggedTensor.from_tensor(t), "RaggedTensor"),
    "sparse": (lambda t: tf.sparse.from_dense(t), "SparseTensor"),
    "complex": (lambda t: tf.cast(t, "complex128"), "complex128"),
    "numbers": (lambda t: 1.0, "float"),
    "strings": (lambda t: tf.strings.as_string(t), "string"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_cannot_be_differentiated_are_errors_that_say_so(name):
    transform, words = OUTPUTS[name]
    model = Returning(lambda t: t)
    model(DENSE)
    model.transform = transform
    with pytest.raises((TypeError, ValueError), match=words):
        keras_mgs.trace(model, DENSE)


def by_python(t):
    return tf.ensure_shape(tf.py_function(lambda v: v**2 + v, [t], t.dtype), t.shape)


def test_python_code_after_weights_is_an_error_that_says_so():
    model = Returning(lambda t: t)
    model(DENSE)
    model.transform = by_python
    with pytest.raises(NotImplementedError, match="tf.py_function"):
        keras_mgs.trace(model, DENSE)


def test_python_code_on_the_data_is_exact():
    model = sequential((6,), layers.Lambda(by_python), layers.Dense(2))
    expected = (oracles.jacobian(randomised(model), DENSE) ** 2).sum()
    np.testing.assert_allclose(keras_mgs.trace(model, DENSE), expected, rtol=1e-9)


# Outputs that grow with the batch


def similarities():
    a, b = keras.Input((6,)), keras.Input((6,))
    u, v = layers.Dense(2)(a), layers.Dense(2)(b)
    return keras.Model(
        [a, b], layers.Lambda(lambda t: ops.matmul(t[0], ops.transpose(t[1])))([u, v])
    )


class Pairs(keras.Model):
    """Each sample beside all others, (n, n, 2)."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2, "tanh")

    def call(self, x):
        h = self.dense(x)
        return h[:, None] * h[None]


def pairs():
    model = Pairs()
    model(DENSE)
    return model


GROWING = {
    "similarities": (similarities, [DENSE, DENSE[::-1].copy()]),
    "pairs": (pairs, DENSE),
    "six samples, as a trial has": (pairs, np.concatenate([DENSE, DENSE[:1] + 1])),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_batch_whose_outputs_grow_with_it_is_one_sample(name):
    build, x = GROWING[name]
    model = randomised(build())
    j = oracles.jacobian(model, x)
    np.testing.assert_allclose(keras_mgs.jacobian(model, x), j, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(keras_mgs.kernel(model, x), oracles.kernel(j), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(keras_mgs.sample_traces(model, x), (j**2).sum((1, 2)), rtol=1e-9)
    with pytest.raises(ValueError, match="grow with the batch"):
        keras_mgs.trace(model, x, batch_size=2)
    tensors = keras.tree.map_structure(tf.constant, x)
    _, penalty = keras_mgs.TracePenalty(1.0, "exact", every=1)(model, tensors, 0, training=False)
    assert float(penalty) == pytest.approx((j**2).sum(), rel=1e-9)


def test_outputs_that_do_not_grow_leave_samples_independent():
    model = randomised(Returning(lambda t: t))
    model(DENSE)
    keras_mgs.trace(model, DENSE, batch_size=2)


# Variables that optimizers overwrite


def test_scales_of_float8_have_no_columns():
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    model = plain()
    model.quantize("float8")
    weights = [w for w in model.trainable_weights if not w.overwrite_with_gradient]
    assert [w.name for w in weights] == ["kernel", "bias"] * 2
    x = tf.constant(DENSE, "float32")

    @tf.function  # Keras' rule for float8 has no gradient outside of a graph
    def rows():
        with tf.GradientTape(persistent=True) as tape:
            entries = tf.unstack(tf.reshape(model(x), (-1,)))
        gradients = [tape.gradient(e, [w.value for w in weights]) for e in entries]
        return [tf.concat([tf.reshape(g, (-1,)) for g in row], 0) for row in gradients]

    expected = np.reshape(rows(), (N, 2, -1))
    np.testing.assert_allclose(keras_mgs.jacobian(model, x), expected, rtol=1e-5, atol=1e-6)
