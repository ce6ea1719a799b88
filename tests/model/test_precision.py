"""Single, double and mixed precision, and loss scaling."""

import keras
import numpy as np
import pytest
from fitting import BATCH, automatic_from_the_first_step, data, fitted, network, same_weights
from keras import layers
from problems import randomise, sequential

from keras_mgs import LogDetPenalty, MGSModel, TracePenalty, checks

# The distance from 1 to the next number. A number that is rounded is wrong by up to half of that; a
# step rounds a dozen numbers on its way through the layers and back, twice, and the errors add up
# as random ones do: less than two of these in all, of the whole step's length. The weights, in
# single precision, are rounded before the step and after it.
EPS = {"float32": 2**-23, "mixed_float16": 2**-10, "mixed_bfloat16": 2**-7}
ROUNDING = 2


def use(policy):
    """The fixture `float64` restores both."""
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    keras.config.set_dtype_policy(policy)


@pytest.fixture(autouse=True)
def at_once():
    with automatic_from_the_first_step():
        yield


def small(head=None):
    model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(2, dtype=head))
    randomise(model, np.random.default_rng(0))
    return model


def compiled(model):
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model


def step(model, x, y):
    """How one step of `fit` moves the weights, as one vector, and History."""
    before = [w.numpy() for w in model.trainable_weights]
    history = model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0).history
    moves = [w.numpy() - b for w, b in zip(model.trainable_weights, before, strict=True)]
    return np.concatenate([m.ravel() for m in moves]), history


def within(move, expected, eps, model):
    weights = np.concatenate([w.numpy().ravel() for w in model.trainable_weights])
    allowed = ROUNDING * eps * np.linalg.norm(expected) + 2**-23 * np.linalg.norm(weights)
    return np.linalg.norm(move - expected) < allowed


@pytest.mark.parametrize("head", [None, "float32"])
@pytest.mark.parametrize(
    "penalty",
    [TracePenalty(), TracePenalty(0.01, "exact"), LogDetPenalty(0.05, epsilon=0.1)],
    ids=["default", "exact", "log_det"],
)
def test_a_step_in_any_precision_is_the_one_in_double_precision_but_for_rounding(penalty, head):
    use("float64")
    x, y = data(BATCH)
    unpenalised, _ = step(compiled(small()), x, y)
    expected, said = step(compiled(MGSModel(small(), penalty)), x, y)
    for policy, eps in EPS.items():
        if policy == head:
            continue  # the same as without a head of its own
        use(policy)
        mgs = compiled(MGSModel(small(head), penalty))
        move, history = step(mgs, x, y)
        assert within(move, expected, eps, mgs), policy
        assert not within(unpenalised, expected, 2 * eps, mgs)  # else it would prove nothing
        for key in ("loss", "mgs_alpha", "mgs_penalty"):
            assert history[key] == pytest.approx(said[key], rel=ROUNDING * eps), (policy, key)
        assert {w.dtype for w in mgs.model.weights} == {"float32"}
        scaled = isinstance(mgs.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")


def test_loss_scaling_does_not_change_the_step():
    a, b = (MGSModel(network(), TracePenalty(0.01, "exact", every=2)) for _ in range(2))
    fitted(a, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), 8.0))
    fitted(b, keras.optimizers.SGD(0.05))
    same_weights(a.model, b.model)


def test_a_scale_that_grows_changes_neither_steps_nor_alpha_nor_the_penalty():
    """It doubles at every step, which does not make a gradient look twice as long."""
    sgd = keras.optimizers.SGD
    growing = keras.optimizers.LossScaleOptimizer(sgd(0.05), 8.0, dynamic_growth_steps=1)
    a, b = (MGSModel(network(), TracePenalty(every=1)) for _ in range(2))
    history, expected = fitted(a, growing), fitted(b, sgd(0.05))
    assert float(growing.dynamic_scale) == 8 * 2**6
    same_weights(a.model, b.model)
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-9, err_msg=key)


def until_it_fits(mgs, x, y):
    """Fit again until a step's gradients are finite: that step, and how many were skipped."""
    skipped, done = 0, int(mgs.optimizer.iterations)
    while True:
        scale = float(mgs.optimizer.dynamic_scale) if mgs.optimizer.built else 2.0**15
        move, history = step(mgs, x, y)
        if int(mgs.optimizer.iterations) > done:
            return move, history, skipped
        assert not move.any()
        assert float(mgs.optimizer.dynamic_scale) == scale / 2
        skipped += 1
        assert skipped < 20


def test_a_step_that_overflows_is_skipped_and_leaves_no_trace():
    """Neither in α nor in the lengths of gradients, by which the second step is shortened.

    Exact, because every batch draws signs of its own, a skipped one too.
    """
    x, y = data(BATCH)
    use("float32")
    single = compiled(MGSModel(small(), TracePenalty("auto", "exact", every=1)))
    use("mixed_float16")
    half = compiled(MGSModel(small(), TracePenalty("auto", "exact", every=1)))
    tolerance = ROUNDING * EPS["mixed_float16"]
    for size in (30, 300):  # of the targets: the second gradient is ten times as long
        move, history, skipped = until_it_fits(half, x, size * y)
        assert skipped > 0
        use("float32")
        expected, said = step(single, x, size * y)
        use("mixed_float16")
        assert within(move, expected, EPS["mixed_float16"], half)
        for key in ("loss", "mgs_alpha", "mgs_penalty"):
            assert history[key] == pytest.approx(said[key], rel=tolerance), key


def test_inputs_reach_the_network_as_they_do_without_mgs():
    """In bfloat16 the identifier 3001 would be 3008."""
    use("mixed_bfloat16")
    x, y = np.array([[3001.0], [2999.0]]), np.ones((2, 2))

    def lookup():
        model = sequential((1,), layers.Embedding(3010, 2), layers.Flatten(), dtype="int32")
        randomise(model, np.random.default_rng(0))
        return model

    mgs, plain = MGSModel(lookup(), TracePenalty(0)), lookup()
    for model in (mgs, plain):
        compiled(model).fit(x, y, verbose=0)
    np.testing.assert_allclose(mgs.model.get_weights()[0], plain.get_weights()[0], rtol=1e-6)


def test_a_double_precision_model_stays_one_under_a_single_precision_policy():
    model, (x, _) = network(), data()
    use("float32")
    mgs = MGSModel(model)
    np.testing.assert_array_equal(mgs(x), model(x))


def test_a_mixed_precision_model_has_its_loss_scaled_under_another_policy_too():
    use("mixed_float16")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))  # it has the policy, as its layers have
    use("float32")
    for m in (model, MGSModel(model)):
        m.compile("sgd", "mse")
        assert isinstance(m.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}])
def test_what_the_optimizer_overwrites_is_that_of_the_plain_model(optimizer, options):
    """The scales of float8 are put in place by their "gradients"."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 3)), rng.normal(size=(24, 2))

    def trained(wrap):
        keras.utils.set_random_seed(1)
        dense = [layers.Dense(4, "tanh"), layers.Dense(2)]
        net = keras.Sequential([keras.Input((3,)), *dense])
        net.quantize("float8")
        model = wrap(net)
        model.compile(getattr(keras.optimizers, optimizer)(0.1), "mse", **options)
        model.fit(x, y, batch_size=6, shuffle=False, epochs=2, verbose=0)
        return net

    plain = trained(lambda net: net)
    ours = trained(lambda net: MGSModel(net, TracePenalty(0.0, every=2)))
    overwritten = [w for w in plain.trainable_weights if checks.is_overwritten(w)]
    assert overwritten and any(np.any(w.numpy() != 0) for w in overwritten)
    for v, w in zip(ours.trainable_weights, plain.trainable_weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-6, atol=1e-7, err_msg=v.path)  # single precision
    penalised = trained(lambda net: MGSModel(net, TracePenalty(0.01, every=2)))
    for v in penalised.trainable_weights:
        assert np.isfinite(v.numpy()).all(), v.path
    assert np.abs(penalised.get_weights()[0] - plain.get_weights()[0]).max() > 1e-6
