"""The penalties: the estimator's mean, their gradients, their configuration."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import EPSILON, PENALTIES, batches, data, fitted, mean_square, network, same_weights
from keras import layers
from problems import make, randomise, sequential

import keras_mgs
from keras_mgs import LogDetPenalty, LossGradientPenalty, MGSModel, RKHSPenalty, TracePenalty

pytestmark = pytest.mark.usefixtures("float64")


def evaluated(penalty, model, x, y=None, seed=0):
    """(loss, penalty's value, gradient of loss + value), as a training step computes them."""
    x = keras.tree.map_structure(tf.convert_to_tensor, x)
    with tf.GradientTape() as outer:
        with penalty.watching(model, x, tf.constant(seed)) as forward:
            run = forward(model)
            run.loss = tf.reduce_mean(tf.square(run.f - (0.0 if y is None else y)))
        value = penalty.value(run)
        total = run.loss + value
    gradient = outer.gradient(
        total, oracles.variables(model), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    dense = [np.ravel(tf.convert_to_tensor(g)) for g in gradient]
    return run.loss, value, np.concatenate(dense)


def projections(model, x, count):
    """The estimates of `count` training steps."""
    penalty, x = TracePenalty(1.0), keras.tree.map_structure(tf.constant, x)

    @tf.function(autograph=False)
    def value(seed):
        with keras.StatelessScope(), penalty.watching(model, x, seed) as forward:
            return penalty.value(forward(model))

    return np.array([value(tf.constant(seed)) for seed in range(count)])


MODELS = ["dense, activations", "conv2d same, strided", "own layer", "list of outputs"]


@pytest.mark.parametrize("name", [*MODELS, "layer called at other positions", "unrolled LSTM"])
def test_mean_of_the_projections_is_the_exact_trace_within_their_standard_error(name):
    model, x = make(name, n=4)
    exact = float(keras_mgs.trace(model, x))
    drawn = projections(model, x, 600)
    error = drawn.std(ddof=1) / np.sqrt(len(drawn))
    assert error < 0.1 * exact
    assert abs(drawn.mean() - exact) < 4 * error


def test_batch_normalization_s_coupling_is_in_the_projections_and_in_the_exact_trace():
    model = sequential((3,), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(4, 3))
    exact = (oracles.jacobian(model, x, training=True) ** 2).sum()
    _, value, _ = evaluated(TracePenalty(1.0, "exact"), model, x)
    np.testing.assert_allclose(value, exact, rtol=1e-9)
    drawn = projections(model, x, 300)
    assert abs(drawn.mean() - exact) < 4 * drawn.std(ddof=1) / np.sqrt(len(drawn))


def test_probes_are_averaged_and_steps_and_probes_differ():
    model, x = make("dense, activations")

    def value(seed, probes):
        return float(evaluated(TracePenalty(1.0, probes=probes), model, x, seed=seed)[1])

    for seed, probes in [(0, 1), (3, 2), (3, 5)]:
        f = lambda: oracles.flat(model(x))  # noqa: E731
        expected = oracles.penalty("hutchinson", f, oracles.variables(model), seed, probes)[1]
        np.testing.assert_allclose(value(seed, probes), expected, rtol=1e-9)
    assert len({value(0, 1), value(1, 1), value(0, 2), value(1, 2)}) == 4


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "penalty",
    [
        TracePenalty(1.0),
        TracePenalty(1.0, probes=2),
        TracePenalty(1.0, "exact"),
        LogDetPenalty(1.0, 1e-2),
        RKHSPenalty(1.0, 1e-2, differentiate_kernel=True),
        LossGradientPenalty(1.0),
        LossGradientPenalty(1.0, "inputs"),
    ],
    ids=repr,
)
def test_gradient_of_the_penalised_loss_equals_finite_differences(penalty, name):
    model, x = make(name)
    gradient = evaluated(penalty, model, x, seed=2)[2]

    @tf.function(autograph=False)
    def total():
        run = evaluated_graph(penalty, model, x)
        return run.loss + penalty.value(run)

    expected = oracles.finite_differences(total, model.trainable_weights)
    # A central difference of 1e-5: rounding leaves about 1e-10 of the value, the third derivative
    # 1e-10 of itself; the third derivatives of what is made of K + ε I grow with 1/ε².
    tolerance = 1e-5 if isinstance(penalty, LogDetPenalty | RKHSPenalty) else 1e-7
    np.testing.assert_allclose(
        gradient, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    "name",
    ["einsum dense", "conv2d transpose valid", "depthwise conv1d", "separable conv1d", "embedding",
     "batch normalization", "layer normalization", "group normalization", "prelu", "attention",
     "unrolled LSTM", "LoRA, dense"],
)  # fmt: skip
def test_gradient_of_the_trace_is_right_through_layers_of_every_family(name):
    """Among them batch statistics, of which TensorFlow's own second derivative is wrong."""
    model, x = make(name, n=4)
    for penalty in (TracePenalty(1.0), TracePenalty(1.0, "exact")):
        gradient = evaluated(penalty, model, x, seed=2)[2]

        @tf.function(autograph=False)
        def total(penalty=penalty):
            with keras.StatelessScope():
                run = evaluated_graph(penalty, model, x)
            return run.loss + penalty.value(run)

        expected = oracles.finite_differences(total, model.trainable_weights)
        # See above; and two numbers with nearly the same value make a group's derivatives large.
        tolerance = 1e-5 if name == "group normalization" else 1e-7
        atol = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=atol)


def evaluated_graph(penalty, model, x):
    x = tf.nest.map_structure(tf.constant, x)
    with penalty.watching(model, x, tf.constant(2)) as forward:
        run = forward(model)
        run.loss = tf.reduce_mean(tf.square(run.f))
    return run


def test_loss_gradient_penalty_equals_its_formula():
    w, x, y = np.array([[1.0], [2.0]]), np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([[1.0], [0.0]])
    model = sequential((2,), layers.Dense(1, use_bias=False))
    model.set_weights([w])
    residual = x @ w - y
    by_weights = x.T @ residual
    by_inputs = residual @ w.T
    for wrt, gradient in {"weights": by_weights, "inputs": by_inputs}.items():
        _, value, _ = evaluated(LossGradientPenalty(1.0, wrt), model, x, y)
        np.testing.assert_allclose(value, (gradient**2).sum(), rtol=1e-9)  # the mean of two: 2 / 2


def test_log_det_penalty_equals_the_function():
    model, x = make("conv2d same, strided")
    for epsilon in (1e-6, 1e-2):
        _, value, _ = evaluated(LogDetPenalty(1.0, epsilon), model, x)
        np.testing.assert_allclose(value, keras_mgs.log_det(model, x, epsilon=epsilon), rtol=1e-9)


@pytest.mark.parametrize(
    "name", [*MODELS, "layer called at other positions", "batch normalization"]
)
@pytest.mark.parametrize("kind", ["rkhs", "rkhs, K too"])
def test_rkhs_penalty_and_its_gradient_equal_those_of_tape_gradients(kind, name):
    model, x = make(name, n=4)
    penalty = RKHSPenalty(1.0, EPSILON, differentiate_kernel=kind == "rkhs, K too")
    _, value, gradient = evaluated(penalty, model, x)
    with tf.GradientTape() as tape:
        f = lambda: oracles.flat(model(x, training=True))  # noqa: E731
        outputs, expected = oracles.penalty(kind, f, oracles.variables(model), epsilon=EPSILON)
        total = tf.reduce_mean(outputs**2) + expected
    by_tapes = tape.gradient(total, oracles.variables(model), unconnected_gradients="zero")
    by_tapes = np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in by_tapes])
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(gradient, by_tapes, rtol=1e-9, atol=1e-9 * np.abs(by_tapes).max())


def test_rkhs_penalty_equals_its_formula_also_where_k_is_singular():
    """Of 8 outputs that follow from 4 weights ε alone keeps the norm finite."""
    w = np.random.default_rng(0).normal(size=(2, 2))
    x = np.random.default_rng(1).normal(size=(4, 2))
    model = sequential((2,), layers.Dense(2, use_bias=False))
    model.set_weights([w])
    k = np.kron(x @ x.T, np.eye(2))
    f = (x @ w - (x @ w).mean(axis=0)).ravel()
    for epsilon in (1e-6, 1e-2):
        shifted = k + epsilon * np.trace(k) / 8 * np.eye(8)
        for differentiated in (False, True):
            penalty = RKHSPenalty(1.0, epsilon, differentiate_kernel=differentiated)
            _, value, gradient = evaluated(penalty, model, x)
            np.testing.assert_allclose(value, f @ np.linalg.solve(shifted, f), rtol=1e-9)
            assert np.isfinite(gradient).all()


def test_a_norm_of_equal_outputs_is_zero():
    """One sample, or several that are the same: nothing is left of f less its mean."""
    model, _ = make("dense, activations")
    for x in (np.ones((1, 3)), np.ones((3, 3))):
        assert abs(evaluated(RKHSPenalty(1.0), model, x)[1]) < 1e-25  # rounding, squared


@pytest.mark.parametrize(
    "penalty",
    [
        TracePenalty(),
        TracePenalty(0.5, "exact", 1, 3),
        TracePenalty(1e-5, "hutchinson", 4, 1),
        TracePenalty(samples=None),
        TracePenalty(samples=7),
        TracePenalty(keras.optimizers.schedules.CosineDecay(0.1, 100)),
        LogDetPenalty(0.1),
        LogDetPenalty(0.5, 1e-3, 2),
        RKHSPenalty(0.1),
        RKHSPenalty(0.5, 1e-3, 2, True),
        LossGradientPenalty(0.3),
        LossGradientPenalty(0.3, "inputs", 5),
    ],
    ids=repr,
)
def test_configuration_round_trip(penalty):
    back = type(penalty).from_config(penalty.get_config())
    assert back.get_config() == penalty.get_config()
    serialised = keras.saving.serialize_keras_object(penalty)
    again = keras.saving.deserialize_keras_object(serialised)
    assert type(again) is type(penalty)
    assert repr(again) == repr(penalty)


# A training loop of the user's own

LOOPS = {
    "hutchinson": PENALTIES["hutchinson"](3, 2),
    "exact": TracePenalty(0.01, "exact", every=1),
    "log_det": LogDetPenalty(0.01, EPSILON, every=2),
    "rkhs": RKHSPenalty(0.01, EPSILON, every=2),
    "rkhs, K too": RKHSPenalty(0.01, EPSILON, 2, True),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", LOOPS)
def test_a_training_loop_of_one_s_own_equals_the_plain_one(kind, compiled):
    penalty, model, optimizer = LOOPS[kind], network(), keras.optimizers.SGD(0.05)

    def train_step(x, y):
        with tf.GradientTape() as tape:
            outputs, extra = penalty(model, x, optimizer.iterations)
            loss = mean_square(y, outputs) + extra
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)

    if compiled:
        train_step = tf.function(train_step)
    for x, y in batches(*data(), 2):
        train_step(x, y)
    reference = network()
    oracles.train(
        reference, mean_square, keras.optimizers.SGD(0.05), batches(*data(), 2), kind, 0.01,
        penalty.every, getattr(penalty, "probes", 1), EPSILON,
    )  # fmt: skip
    same_weights(model, reference)


def test_a_train_step_of_one_s_own_equals_that_of_mgs_model():
    class Mine(keras.Sequential):
        penalty = TracePenalty(0.01, every=2)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                outputs, extra = self.penalty(self, x, self.optimizer.iterations)
                loss = self.compute_loss(x, y, outputs) + extra
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply(gradients, self.trainable_weights)
            return self.compute_metrics(x, y, outputs)

    mine, mgs = (
        Mine([keras.Input((3,)), *network().layers]),
        MGSModel(network(), TracePenalty(0.01, every=2)),
    )
    fitted(mine, keras.optimizers.SGD(0.05))
    fitted(mgs, keras.optimizers.SGD(0.05))
    same_weights(mine, mgs.model)


def test_a_loop_of_one_s_own_asks_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    model, x = make("dense, activations")
    values = [float(TracePenalty(schedule, "exact", every=1)(model, x, step)[1]) for step in (0, 2)]
    exact = float(keras_mgs.trace(model, x))
    np.testing.assert_allclose(values, [0.5 * exact, 0.25 * exact], rtol=1e-9)


def test_the_forward_pass_of_a_loop_is_that_of_training_unless_told_otherwise():
    model, x = make("dense, activations")
    model = keras.Sequential([model, layers.Dropout(0.5, seed=1)])
    penalty = TracePenalty(1.0, "exact", every=1)
    outputs, value = penalty(model, x, 0, training=False)
    np.testing.assert_allclose(outputs, model(x))
    np.testing.assert_allclose(value, keras_mgs.trace(model, x), rtol=1e-9)
    assert (penalty(model, x, 0)[0].numpy() == 0).any()


def test_autograph_leaves_our_code_alone_in_a_tf_function_of_the_user_s(caplog):
    """It would warn of what it cannot translate, and there is nothing in it to translate."""
    model, x = make("dense, activations")
    penalty = TracePenalty(1.0, "exact", every=2)
    tf.function(lambda: (penalty(model, x, 0), keras_mgs.trace(model, x)))()
    assert "AutoGraph" not in caplog.text


@pytest.mark.parametrize(
    "penalty",
    [TracePenalty(1.0, "exact"), LogDetPenalty(1.0), RKHSPenalty(1.0), TracePenalty()],
    ids=repr,
)
def test_under_xla_no_shape_passes_through_a_function(penalty):
    """Or XLA would take weights and data for constants, and compile each step anew."""
    model = network()

    @tf.function(autograph=False, jit_compile=True)
    def gradient(x):
        with tf.GradientTape() as outer:
            with penalty.watching(model, x, tf.constant(0)) as forward:
                run = forward(model)
            value = penalty.value(run)
        return outer.gradient(value, oracles.variables(model))

    graph = gradient.get_concrete_function(tf.TensorSpec((4, 3), tf.float64)).graph
    assert not [o.name for o in graph.get_operations() if "PartitionedCall" in o.type]
