"""The callbacks of Keras in a `fit` of MGSModel, beside MGSMetrics and on their own."""

import csv

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import (
    BATCH,
    PENALTIES,
    N,
    automatic_from_the_first_step,
    batches,
    by_plain_loop,
    data,
    fitted,
    mean_square,
    network,
    same_weights,
)

from keras_mgs import MGSMetrics, MGSModel, TracePenalty

X_VAL, Y_VAL = (a[N:] for a in data(N + 6))
STEPS = N // BATCH  # of an epoch; one step in two is penalised


@pytest.fixture(autouse=True)
def at_once():
    with automatic_from_the_first_step():
        yield


def model():
    return MGSModel(network(), PENALTIES["hutchinson"](2, 1))


def fit(mgs, *callbacks, epochs=4, **kwargs):
    """History; `mgs_trace` falls from epoch to epoch, which the tests rely on."""
    callbacks = [MGSMetrics(data()[0]), *callbacks]
    history = fitted(mgs, keras.optimizers.SGD(0.05), epochs, callbacks=callbacks, **kwargs)
    assert (np.diff(history["mgs_trace"]) < 0).all()
    return history


class Weights(keras.callbacks.Callback):
    """Those at the end of each epoch, before the callbacks after this one touch them."""

    def __init__(self):
        super().__init__()
        self.of_epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.of_epochs.append(self.model.model.get_weights())


def assert_weights(mgs, expected):
    for v, w in zip(mgs.model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9, atol=1e-12)


def at_rates(rates):
    """The plain loop, with a learning rate for each epoch."""
    optimizer = keras.optimizers.SGD()

    def scheduled():
        for i, pair in enumerate(batches(*data(), epochs=len(rates))):
            optimizer.learning_rate = rates[i // STEPS]
            yield pair

    return by_plain_loop(scheduled(), optimizer=optimizer)[0]


@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping_by_the_trace_stops_and_restores_the_best_epoch(restore):
    """It waits for a trace that rises: the first epoch is the best, and two more are waited for."""
    weights = Weights()
    stopping = keras.callbacks.EarlyStopping(
        "mgs_trace", mode="max", patience=2, restore_best_weights=restore
    )
    mgs = model()
    history = fit(mgs, weights, stopping, epochs=6)
    assert (stopping.stopped_epoch, stopping.best_epoch) == (2, 0)
    assert len(history["loss"]) == 3
    assert_weights(mgs, weights.of_epochs[0 if restore else 2])
    reference, _, _ = by_plain_loop(batches(*data(), 3))
    np.testing.assert_allclose(weights.of_epochs[2][0], reference.get_weights()[0], rtol=1e-9)


def test_early_stopping_goes_on_while_the_trace_falls():
    stopping = keras.callbacks.EarlyStopping("mgs_trace", mode="min", patience=1)
    history = fit(model(), stopping)
    assert len(history["loss"]) == 4
    assert stopping.best == history["mgs_trace"][-1]


def test_checkpoints_by_the_trace_hold_the_best_epoch_and_train_on(tmp_path):
    """α is automatic, so that it is part of what is saved."""

    def checkpoint(mode, suffix):
        return keras.callbacks.ModelCheckpoint(
            str(tmp_path / f"{mode}{suffix}"),
            monitor="mgs_trace",
            mode=mode,
            save_best_only=True,
            save_weights_only=suffix == ".weights.h5",
        )

    mgs, weights, best = MGSModel(network()), Weights(), {"max": np.argmax, "min": np.argmin}
    checkpoints = [
        checkpoint(mode, suffix) for mode in best for suffix in (".keras", ".weights.h5")
    ]
    callbacks = [MGSMetrics(data()[0]), weights, *checkpoints]
    history = fitted(mgs, keras.optimizers.Adam(0.05), 3, callbacks=callbacks)
    epochs = {mode: int(of(history["mgs_trace"])) for mode, of in best.items()}
    assert epochs["max"] == 0 < epochs["min"]
    for mode, epoch in epochs.items():
        whole = keras.models.load_model(tmp_path / f"{mode}.keras")
        assert isinstance(whole, MGSModel)
        of_weights = MGSModel(network())
        of_weights.load_weights(tmp_path / f"{mode}.weights.h5")
        for back in (whole, of_weights):
            assert_weights(back, weights.of_epochs[epoch])
            assert back.alpha == history["mgs_alpha"][epoch]
    # The optimizer, and with it the count of steps, is in the file.
    back = keras.models.load_model(tmp_path / "max.keras")
    options = {"initial_epoch": 1, "epochs": 3, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    losses = back.fit(*data(), **options).history["loss"]
    assert_weights(back, weights.of_epochs[2])
    np.testing.assert_allclose(losses, history["loss"][1:], rtol=1e-9)


def test_a_plateau_of_the_trace_reduces_the_learning_rate():
    """No change of the trace is enough for it: every epoch but the first is a plateau."""
    plateau = keras.callbacks.ReduceLROnPlateau(
        "mgs_trace", mode="min", factor=0.5, patience=1, min_delta=1e9
    )
    mgs = model()
    history = fit(mgs, plateau)
    # Keras records the rate of the epoch before it is reduced.
    np.testing.assert_allclose(history["learning_rate"], [0.05, 0.05, 0.025, 0.0125], rtol=1e-6)
    same_weights(mgs.model, at_rates(history["learning_rate"]))


def test_a_falling_trace_is_no_plateau():
    plateau = keras.callbacks.ReduceLROnPlateau("mgs_trace", mode="min", patience=1, min_delta=0)
    history = fit(model(), plateau)
    np.testing.assert_allclose(history["learning_rate"], [0.05] * 4, rtol=1e-6)


def test_a_learning_rate_schedule_trains_as_a_plain_loop_at_these_rates():
    rates = [0.05, 0.01, 0.1]
    mgs = model()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    history = fitted(mgs, keras.optimizers.SGD(), 3, callbacks=[schedule])
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-6)  # single precision
    same_weights(mgs.model, at_rates(rates))


def scalars(folder):
    """tag -> step -> value, in the events file of a folder."""
    (path,) = folder.glob("events*")
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_tensorboard_s_scalars_are_those_of_history(tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq=1)
    history = fit(model(), board, epochs=3, validation_data=(X_VAL, Y_VAL))
    written = scalars(tmp_path / "train")
    for key in ("loss", "mgs_trace", "mgs_log_det", "mgs_penalty", "mgs_alpha"):
        expected = dict(enumerate(history[key]))
        # TensorBoard stores single precision.
        assert written[f"epoch_{key}"] == pytest.approx(expected, rel=1e-6), key
    _, _, penalties = by_plain_loop(batches(*data(), 3))
    # Steps 0, 2, 4, 6 and 8; between them the mean of the epoch's so far, or of the last one's.
    a, b, c, d, e = penalties
    expected = [a, a, (a + b) / 2, (a + b) / 2, c, c, d, d, (d + e) / 2]
    expected = dict(enumerate(expected, 1))
    assert written["batch_mgs_penalty"] == pytest.approx(expected, rel=1e-6)
    assert written["batch_mgs_alpha"] == pytest.approx(dict.fromkeys(range(1, 10), 0.01), rel=1e-6)
    validation = scalars(tmp_path / "validation")
    assert validation["epoch_loss"] == pytest.approx(dict(enumerate(history["val_loss"])), rel=1e-6)
    assert not any("mgs" in tag for tag in validation)


def test_the_csv_log_is_history_with_every_column_from_the_first_epoch_on(tmp_path):
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    # Of nine steps the first alone is penalised.
    mgs = MGSModel(network(), TracePenalty("auto", every=10))
    history = fit(mgs, log, epochs=3, validation_data=(X_VAL, Y_VAL))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("epoch") for row in rows] == ["0", "1", "2"]
    assert set(rows[0]) == {
        "loss", "val_loss", "mgs_penalty", "mgs_alpha", "mgs_trace", "mgs_log_det", "mgs_singular",
    }  # fmt: skip
    for key in rows[0]:
        assert [float(row[key]) for row in rows] == history[key]
    assert history["mgs_penalty"][0] > 0


def test_training_ends_at_the_step_whose_loss_is_not_a_number():
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs))
    x, y = data()
    losses = by_plain_loop(batches(x, y, 3), optimizer=keras.optimizers.SGD(1e60))[1]
    first = int(np.argmin(np.isfinite(losses)))
    assert 0 < first < 3 * STEPS - 1
    callbacks = [keras.callbacks.TerminateOnNaN(), count]
    history = fitted(model(), keras.optimizers.SGD(1e60), 3, callbacks=callbacks)
    assert len(seen) == first + 1
    assert len(history["loss"]) == first // STEPS + 1


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averaged_weights_are_those_of_a_plain_loop(swap_on_epoch):
    """They are used for validation, remain at the end, and leave the steps alone."""
    optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch)
    mgs, steps = model(), []
    callbacks = [swap, MGSMetrics(X_VAL)]
    history = fitted(mgs, optimizer, callbacks=callbacks, validation_data=(X_VAL, Y_VAL), epochs=2)

    reference = network()

    def watched():
        for pair in batches(*data(), 2):
            yield pair
            steps.append([w.numpy() for w in reference.trainable_weights])

    by_plain_loop(watched(), model=reference)
    average, val_losses, traces = steps[0], [], []
    for i, step in enumerate(steps):
        average = [0.5 * a + 0.5 * w for a, w in zip(average, step, strict=True)]
        if i % STEPS == STEPS - 1:
            reference.set_weights(average)
            val_losses.append(float(mean_square(Y_VAL, reference(X_VAL))))
            reference.set_weights(average if swap_on_epoch else step)
            traces.append((oracles.jacobian(reference, X_VAL) ** 2).sum())
    np.testing.assert_allclose(history["val_loss"], val_losses, rtol=1e-9)
    np.testing.assert_allclose(history["mgs_trace"], traces, rtol=1e-9)
    reference.set_weights(average)
    same_weights(mgs.model, reference)


def test_a_callback_of_the_user_s_own_sees_the_numbers_of_each_step_and_epoch():
    of_steps, of_epochs = [], []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: of_steps.append(dict(logs)),
        on_epoch_end=lambda epoch, logs: of_epochs.append(dict(logs)),
    )
    history = fit(model(), callback, epochs=2)
    _, losses, penalties = by_plain_loop(batches(*data(), 2))
    losses = losses.reshape(2, STEPS)
    running = np.cumsum(losses, 1) / np.arange(1, STEPS + 1)
    np.testing.assert_allclose([logs["loss"] for logs in of_steps], running.ravel(), rtol=1e-9)
    a, b, c = penalties  # at steps 0, 2 and 4
    expected = [a, a, (a + b) / 2, (a + b) / 2, c, c]
    np.testing.assert_allclose([logs["mgs_penalty"] for logs in of_steps], expected, rtol=1e-9)
    assert {float(logs["mgs_alpha"]) for logs in of_steps} == {0.01}
    for key, values in history.items():
        assert [logs[key] for logs in of_epochs] == values


def test_training_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    broken = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted(MGSModel(network()), "adam", 3, callbacks=[backup(), broken])
    mgs, expected = MGSModel(network()), MGSModel(network())
    resumed = fitted(mgs, "adam", 3, callbacks=[backup()])
    whole = fitted(expected, "adam", 3)
    same_weights(mgs.model, expected.model)
    assert resumed["loss"] == pytest.approx(whole["loss"][1:], rel=1e-9)
    assert mgs.alpha == expected.alpha
