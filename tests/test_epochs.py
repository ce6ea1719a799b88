"""What happens at the end of an epoch: penalties without effect are told of."""

import warnings

import keras
import pytest
from fitting import BATCH, data, same_weights
from keras import layers

from keras_mgs import MGSModel, TracePenalty

pytestmark = pytest.mark.usefixtures("float64")


class Power(layers.Layer):
    """x^1.5, which has no second derivative at 0."""

    def call(self, x):
        return keras.ops.power(x, 1.5)


def powers():
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(2, use_bias=False, kernel_initializer="identity", name="before"), Power()]
    return keras.Sequential([keras.Input((2,)), *dense, layers.Dense(2, name="after")])


def positive():
    x, y = data()
    return abs(x[:, :2]) + 0.1, y


def with_zeros():
    """In the last of three batches."""
    x, y = positive()
    x[-BATCH:] = 0.0
    return x, y


def fitted(model, x, y, **kwargs):
    model.compile(keras.optimizers.SGD(1e-3), "mse", **kwargs.pop("compiled", {}))
    return model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, **kwargs).history


@pytest.mark.parametrize("compiled", [{}, {"steps_per_execution": 3}, {"jit_compile": True}])
def test_such_a_step_becomes_a_plain_one_is_counted_and_told_once(compiled):
    x, y = with_zeros()
    mgs, reference = (MGSModel(powers(), TracePenalty(0.01, every=1)) for _ in range(2))
    with pytest.warns(
        UserWarning, match="not finite in 1 .*near 'sequential.*/(before|after)/"
    ) as said:
        history = fitted(mgs, x, y, epochs=2, compiled=compiled)
    assert len([w for w in said if "not finite" in str(w.message)]) == 1
    assert history["mgs_skipped"] == [1, 1]
    reference.compile(keras.optimizers.SGD(1e-3), "mse")
    for i in range(6):
        part = slice(BATCH * (i % 3), BATCH * (i % 3 + 1))
        reference.alpha = 0.01 if i % 3 < 2 else 0.0
        reference.train_on_batch(x[part], y[part])
    same_weights(mgs.model, reference.model)


def test_epochs_before_the_first_such_step_count_as_none():
    mgs = MGSModel(powers(), TracePenalty(0.01, every=1))

    class Vanish(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                for weight in mgs.model.get_layer("before").weights:
                    weight.assign(0 * weight)

    with pytest.warns(UserWarning, match="not finite in 3 "):
        history = fitted(mgs, *positive(), epochs=4, callbacks=[Vanish()])
    assert history["mgs_skipped"] == [0, 0, 3, 3]
    assert "mgs_skipped" not in fitted(MGSModel(powers(), alpha=0.01), *positive())


def test_a_list_of_callbacks_is_left_as_it_was():
    x, y = with_zeros()
    mgs = MGSModel(powers(), TracePenalty(0.01, every=1))
    mgs.compile(keras.optimizers.SGD(1e-3), "mse")
    callbacks = keras.callbacks.CallbackList(
        [keras.callbacks.Callback()], add_history=True, model=mgs
    )
    before = list(callbacks.callbacks)
    with pytest.warns(UserWarning, match="not finite"):
        history = mgs.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=callbacks)
    assert callbacks.callbacks == before
    assert history.history["mgs_skipped"] == [1]


def test_no_step_is_skipped_of_a_penalty_that_is_not_wanted():
    history = fitted(MGSModel(powers(), TracePenalty(0.0, every=1)), *with_zeros())
    assert "mgs_skipped" not in history


def test_automatic_alpha_stays_unset_where_no_step_has_a_length_and_that_is_told():
    x, y = with_zeros()
    mgs = MGSModel(powers())
    with pytest.warns(UserWarning, match="not finite"):
        history = fitted(mgs, x * 0.0, y, epochs=3)
    assert history["mgs_alpha"] == [0, 0, 0]
    same_weights(mgs.model, _plain(x * 0.0, y))


def _plain(x, y):
    net = powers()
    fitted(net, x, y, epochs=3)
    return net


def head(*hidden):
    """A dense head over a frozen layer."""
    frozen = layers.Dense(4, "tanh", trainable=False)
    return keras.Sequential([keras.Input((3,)), frozen, *hidden, layers.Dense(2)])


def many_steps(model, **kwargs):
    return fitted(model, *data(16 * BATCH), epochs=3, **kwargs)


def test_a_penalty_without_a_gradient_is_told_of_once():
    mgs = MGSModel(head())
    with pytest.warns(UserWarning, match="linear in them, as of one Dense layer") as said:
        history = many_steps(mgs)
    assert len([w for w in said if "linear in them" in str(w.message)]) == 1
    assert history["mgs_alpha"] == [0, 0, 0]


@pytest.mark.parametrize("alpha", ["auto", 0.01])
def test_nothing_is_told_where_a_penalty_has_a_gradient_or_alpha_is_given(alpha):
    hidden = [layers.Dense(4, "tanh")] if alpha == "auto" else []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        many_steps(MGSModel(head(*hidden), alpha=alpha))


def test_layers_that_are_unfrozen_learn_after_compiling_again():
    """As in plain Keras; "auto", wrapped anew, then knows nothing of the head alone."""
    model = head(layers.Dense(4, "tanh"))
    many_steps(mgs := MGSModel(model))
    frozen = model.layers[0]
    before = frozen.get_weights()
    frozen.trainable = True
    many_steps(mgs)
    assert all((a != b).any() for a, b in zip(before, frozen.get_weights(), strict=True))
    anew = MGSModel(mgs.model)
    assert mgs._alpha.state.numpy().any() and not anew._alpha.state.numpy().any()
    assert anew.alpha == "auto"
