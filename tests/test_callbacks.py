"""MGSMetrics: what it writes into History, and who can read it there."""

import copy
import csv
import importlib
import io
import sys
from pathlib import Path

import keras
import matplotlib.pyplot
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from problems import make, randomise, sequential

import keras_mgs
from keras_mgs import MGSMetrics, MGSModel, pieces, plot

pytestmark = pytest.mark.usefixtures("float64")


def network():
    model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    return model


X = np.random.default_rng(1).normal(size=(8, 3))
Y = np.random.default_rng(2).normal(size=(8, 2))


def fitted(model, *callbacks, epochs=3, **kwargs):
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model.fit(X, Y, epochs=epochs, verbose=0, callbacks=list(callbacks), **kwargs).history


class Expected(keras.callbacks.Callback):
    """What the exact functions say at the end of each epoch."""

    def __init__(self, x):
        super().__init__()
        self.x, self.trace, self.log_det = x, [], []

    def on_epoch_end(self, epoch, logs=None):
        self.trace.append(float(keras_mgs.trace(self.model, self.x)))
        self.log_det.append(float(keras_mgs.log_det(self.model, self.x)))


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: MGSModel(m, alpha=1e-3)])
def test_history_holds_the_exact_values_of_every_epoch(wrap):
    expected = Expected(X[:3])
    history = fitted(wrap(network()), expected, MGSMetrics(X[:3], batch_size=2))
    np.testing.assert_allclose(history["mgs_trace"], expected.trace, rtol=1e-9)
    np.testing.assert_allclose(history["mgs_log_det"], expected.log_det, rtol=1e-9)
    assert history["mgs_singular"] == [0.0] * 3


def test_metrics_on_any_kind_of_model():
    model, x = make("dict of inputs", n=4)
    model.compile("sgd", "mse")
    history = model.fit(x, Y[:4], verbose=0, callbacks=[MGSMetrics(x)]).history
    np.testing.assert_allclose(history["mgs_trace"], [keras_mgs.trace(model, x)])


class DictOfInputs(keras.Model):
    """A subclassed model declares no inputs: only a call shows which structure it takes."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x["a"]) + self.dense(x["b"])


def probe_problems():
    one, dictionary = network(), DictOfInputs()
    dictionary({"a": X, "b": X})
    subclassed, x = make("subclassed", n=4)
    return {
        "one input": (one, {"clean": X[:4], "noisy": X[4:]}),
        "one input, one probe": (one, {"clean": X[:4]}),
        "subclassed": (subclassed, {"clean": x[:2], "noisy": x[2:], "test": x}),
        "dict of inputs": (
            dictionary,
            {"clean": {"a": X, "b": X}, "noisy": {"a": X, "b": 2 * X}},
        ),
        "data sets": (one, {"test": tf.data.Dataset.from_tensor_slices(X).batch(3)}),
    }


@pytest.mark.parametrize("name", probe_problems())
def test_named_probes_have_a_key_each(name):
    model, probes = probe_problems()[name]
    callback = MGSMetrics(probes, metrics="trace")
    callback.set_model(model)
    callback.on_train_begin()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert set(logs) == {f"mgs_trace_{name}" for name in probes}
    for key, x in probes.items():
        assert logs[f"mgs_trace_{key}"] == pytest.approx(float(keras_mgs.trace(model, x)), rel=1e-9)


def test_a_dict_that_the_model_takes_is_one_probe():
    model = DictOfInputs()
    x = {"a": X, "b": X}
    model(x)
    callback = MGSMetrics(x, metrics="trace")
    callback.set_model(model)
    callback.on_train_begin()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert set(logs) == {"mgs_trace"}


def test_named_probes_reach_history_with_every_metric():
    history = fitted(network(), MGSMetrics({"clean": X[:3], "noisy": X[3:6]}), epochs=2)
    assert set(history) == {
        "loss",
        *(f"mgs_{m}_{p}" for m in ("trace", "log_det", "singular") for p in ("clean", "noisy")),
    }


def test_every_third_epoch_is_measured_and_the_others_repeat_it():
    expected = Expected(X)
    history = fitted(network(), expected, MGSMetrics(X, every=3), epochs=5)
    t = expected.trace
    np.testing.assert_allclose(history["mgs_trace"], [t[0], t[0], t[0], t[3], t[3]])


def test_training_that_goes_on_later_has_every_key_from_its_first_epoch():
    history = fitted(network(), MGSMetrics(X, every=3), epochs=6, initial_epoch=4)
    assert len(history["mgs_trace"]) == 2
    callback = MGSMetrics(X, every=4)
    fitted(network(), callback)
    model = network()
    model.set_weights([3 * w for w in model.get_weights()])
    expected = Expected(X)
    again = fitted(model, expected, callback, epochs=4, initial_epoch=2)
    # Another training: a value of the last one would be wrong.
    assert again["mgs_trace"][0] == pytest.approx(expected.trace[0])


def test_only_the_metrics_that_were_asked_for():
    keys = {"loss"}
    assert set(fitted(network(), MGSMetrics(X, metrics=("trace",)))) == keys | {"mgs_trace"}
    assert set(fitted(network(), MGSMetrics(X, metrics="trace"))) == keys | {"mgs_trace"}
    assert set(fitted(network(), MGSMetrics(X, metrics=["log_det"]))) == keys | {
        "mgs_log_det",
        "mgs_singular",
    }


def test_trace_alone_equals_trace_with_the_log_determinant():
    a = fitted(network(), MGSMetrics(X, metrics=("trace",)))
    b = fitted(network(), MGSMetrics(X))
    np.testing.assert_allclose(a["mgs_trace"], b["mgs_trace"], rtol=1e-9)


def test_singular_counts_the_eigenvalues_up_to_epsilon():
    twice = np.concatenate([X[:3], X[:3]])  # rank 6 of 12
    history = fitted(network(), MGSMetrics(twice), epochs=1)
    assert history["mgs_singular"] == [6.0]
    assert np.isfinite(history["mgs_log_det"]).all()


@pytest.mark.parametrize("labels", [False, True])
def test_a_dataset_is_read_once_and_measured_as_its_array(labels):
    reads = []

    def noted(*data):
        tf.py_function(lambda: reads.append(1) or 0, [], tf.int32)
        return data if labels else data[0]

    slices = (X[:4], Y[:4]) if labels else (X[:4],)
    dataset = tf.data.Dataset.from_tensor_slices(slices).map(noted).batch(3)
    history = fitted(network(), MGSMetrics(dataset))
    assert len(reads) == 4
    expected = fitted(network(), MGSMetrics(X[:4]))
    np.testing.assert_allclose(history["mgs_trace"], expected["mgs_trace"], rtol=1e-9)


def test_training_true_measures_the_forward_pass_of_training():
    model = sequential((3,), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    callback = MGSMetrics(X, training=True)
    history = fitted(model, callback, epochs=1)
    np.testing.assert_allclose(
        history["mgs_trace"], [keras_mgs.trace(model, X, training=True)], rtol=1e-9
    )


def test_measuring_does_not_change_the_training():
    with_it, without = network(), network()
    a = fitted(with_it, MGSMetrics(X))
    b = fitted(without)
    assert a["loss"] == b["loss"]


def test_callbacks_after_it_see_its_metrics(tmp_path):
    stopping = keras.callbacks.EarlyStopping(monitor="mgs_trace", mode="min", patience=1)
    rising = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: stopping.model.set_weights(
            [1.5 * w for w in stopping.model.get_weights()]
        )
    )
    path, seen = tmp_path / "log.csv", []
    history = fitted(
        network(),
        MGSMetrics(X),
        rising,
        stopping,
        keras.callbacks.CSVLogger(path),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs.copy())),
        epochs=6,
    )
    assert len(history["loss"]) < 6
    rows = list(csv.DictReader(path.open()))
    assert [float(row["mgs_trace"]) for row in rows] == history["mgs_trace"]
    assert {"mgs_log_det", "mgs_singular"} <= rows[0].keys()
    assert [logs["mgs_log_det"] for logs in seen] == history["mgs_log_det"]


def test_tensorboard_after_it_writes_its_metrics(tmp_path):
    fitted(network(), MGSMetrics(X), keras.callbacks.TensorBoard(tmp_path), epochs=2)
    (events,) = (tmp_path / "train").glob("events*")
    tags = {
        value.tag
        for record in tf.data.TFRecordDataset(str(events))
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
    }
    assert {"epoch_mgs_trace", "epoch_mgs_log_det"} <= tags


def others(tmp_path):
    """Callbacks by name, and whether they miss what a callback after them adds to the logs."""
    return {
        "TensorBoard": (keras.callbacks.TensorBoard(tmp_path / "board"), True),
        "CSVLogger": (keras.callbacks.CSVLogger(tmp_path / "log.csv"), True),
        "RemoteMonitor": (keras.callbacks.RemoteMonitor(), True),
        "EarlyStopping": (keras.callbacks.EarlyStopping("mgs_trace"), True),
        "ModelCheckpoint": (
            keras.callbacks.ModelCheckpoint(tmp_path / "m.keras", "mgs_log_det", True),
            True,
        ),
        "of the loss": (keras.callbacks.EarlyStopping("loss"), False),
        "of the user's": (keras.callbacks.LambdaCallback(), False),
    }


@pytest.mark.parametrize("name", others(Path()))
def test_a_callback_that_misses_the_metrics_is_named(name, tmp_path, recwarn, monkeypatch):
    """Nothing is trained, which RemoteMonitor could not report to anybody."""
    callback, misses = others(tmp_path)[name]
    monkeypatch.setattr(callback, "on_train_begin", lambda logs: None)
    for both in ([callback, MGSMetrics(X)], [MGSMetrics(X), callback]):
        keras.callbacks.CallbackList(both, model=network()).on_train_begin()
        words = [str(w.message) for w in recwarn if "MGSMetrics" in str(w.message)]
        recwarn.clear()
        assert len(words) == (misses and both[0] is callback)
        assert all(f"Put MGSMetrics before {name}." in text for text in words)


@pytest.mark.parametrize("given", ["alone", "named"])
def test_a_kernel_that_is_too_large_is_refused_before_the_first_step(given, tmp_path):
    model = keras.Sequential(
        [keras.Input((24, 24, 1)), layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    )
    before = model.get_weights()
    model.compile("sgd", "mse")
    x = np.zeros((32, 24, 24, 1), "float32")
    probe = x if given == "alone" else {"clean": x[:1], "noisy": x}
    with pytest.raises(ValueError, match=r"18,432 x 18,432.*metrics=\('trace',\)") as caught:
        model.fit(x, x, verbose=0, callbacks=[keras_mgs.MGSMetrics(probe)])
    assert ("x['noisy']" if given == "named" else "`x`") in str(caught.value)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    callback = keras_mgs.MGSMetrics(probe, metrics=("trace",))
    assert model.fit(x, x, verbose=0, callbacks=[callback]).history
    callback = keras_mgs.MGSMetrics(probe, metrics=("trace",), images=tmp_path)
    with pytest.raises(ValueError, match=r"18,432 x 18,432.*without `images`"):
        model.fit(x, x, verbose=0, callbacks=[callback])


def test_memory_that_is_not_there_is_noticed_before_the_first_step(monkeypatch):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1000)])
    model.compile("sgd", "mse")
    x = np.zeros((8, 3), "float32")

    def none(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(importlib.import_module("keras_mgs.kernel").np, "empty", none)
    with pytest.raises(ValueError, match="8,000 x 8,000"):
        model.fit(x, np.zeros((8, 1000)), verbose=0, callbacks=[keras_mgs.MGSMetrics(x)])


def images(folder):
    """tag -> step -> pixels, in the events file of a folder."""
    (path,) = folder.glob("events*")
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "images"
            width, height, png = tf.make_ndarray(value.tensor)
            pixels = tf.io.decode_png(png).numpy()
            assert pixels.shape[:2] == (int(height), int(width))
            found.setdefault(value.tag, {})[event.step] = pixels
    return found


class Drawn(keras.callbacks.Callback):
    """What `keras_mgs.plot` draws of the exact functions at the end of each epoch."""

    def __init__(self, x):
        super().__init__()
        self.x, self.kernels, self.spectra = x, [], []

    def on_epoch_end(self, epoch, logs=None):
        with matplotlib.rc_context({"savefig.format": "png", "backend": "agg"}):
            k, values = (f(self.model, self.x) for f in (keras_mgs.kernel, keras_mgs.eigenvalues))
            self.kernels.append(saved(plot.kernel(k)))
            self.spectra.append(saved(plot.spectrum(values)))


def saved(axis):
    file = io.BytesIO()
    axis.figure.savefig(file)
    matplotlib.pyplot.close(axis.figure)
    return tf.io.decode_png(file.getvalue()).numpy()


@pytest.mark.parametrize("metrics", ["trace", "log_det"])
def test_images_are_k_and_its_spectrum_as_plot_draws_them(metrics, tmp_path):
    drawn = Drawn(X[:4])
    fitted(network(), drawn, MGSMetrics(X[:4], metrics, images=tmp_path / "new"), epochs=2)
    found = images(tmp_path / "new")
    assert set(found) == {"mgs_kernel", "mgs_spectrum"}
    for tag, expected in {"mgs_kernel": drawn.kernels, "mgs_spectrum": drawn.spectra}.items():
        assert list(found[tag]) == [0, 1]
        assert not np.array_equal(expected[0], expected[1])  # K has changed
        for epoch, pixels in found[tag].items():
            np.testing.assert_array_equal(pixels, expected[epoch])


def test_images_of_named_probes_are_of_the_measured_epochs(tmp_path):
    probes = {"clean": X[:3], "noisy": X[3:6]}
    fitted(network(), MGSMetrics(probes, every=2, images=str(tmp_path)), epochs=4)
    steps = {tag: list(of) for tag, of in images(tmp_path).items()}
    names = [f"mgs_{what}_{probe}" for probe in probes for what in ("kernel", "spectrum")]
    assert steps == {name: [0, 2] for name in names}


@pytest.mark.parametrize("metrics", ["trace", ("trace", "log_det")])
def test_images_change_no_number_and_k_is_computed_once(metrics, tmp_path, monkeypatch):
    expected = fitted(network(), MGSMetrics(X, metrics))
    calls, kernel = [], pieces.kernel

    def noted(*args):
        calls.append(args)
        return kernel(*args)

    monkeypatch.setattr(pieces, "kernel", noted)
    history = fitted(network(), MGSMetrics(X, metrics, images=tmp_path))
    assert len(calls) == 3  # epochs
    assert set(history) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-9)


def test_images_leave_no_figure_open(tmp_path):
    before = matplotlib.pyplot.get_fignums()
    fitted(network(), MGSMetrics(X[:2], images=tmp_path), epochs=1)
    assert matplotlib.pyplot.get_fignums() == before


def test_images_are_written_where_tensorboard_writes_at_few_steps(tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path, update_freq=100)
    fitted(network(), MGSMetrics(X[:2], images=tmp_path / "mgs"), board, epochs=2)
    assert list(images(tmp_path / "mgs")["mgs_kernel"]) == [0, 1]


def test_images_of_a_training_that_was_interrupted_can_be_read(tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    watch = MGSMetrics(X[:2], images=tmp_path)  # it still holds the file when that is read
    broken = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted(network(), watch, broken)
    assert list(images(tmp_path)["mgs_spectrum"]) == [0]


def test_a_callback_with_images_can_be_copied_and_used_again(tmp_path):
    """KerasTuner copies callbacks for every trial."""
    callback = MGSMetrics(X[:2], images=tmp_path / "a")
    fitted(network(), callback, epochs=1)
    again = copy.deepcopy(callback)
    again.images = str(tmp_path / "b")
    fitted(network(), again, epochs=1)
    assert all(images(tmp_path / name).keys() == {"mgs_kernel", "mgs_spectrum"} for name in "ab")


def test_a_network_that_has_diverged_goes_on_with_a_picture_that_says_so(tmp_path):
    model = network()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    history = fitted(model, MGSMetrics(X[:2], images=tmp_path), epochs=1)
    assert np.isnan(history["mgs_trace"]).all()
    assert len(np.unique(images(tmp_path)["mgs_spectrum"][0])) > 1  # not blank


@pytest.mark.parametrize(
    "given, words",
    [
        (True, "folder for TensorBoard, such as 'logs/mgs', or None. Received: images=True"),
        (3, "Received: images=3"),
        ("", "name a folder. Received: images=''"),
    ],
)
def test_images_that_are_no_folder_are_refused(given, words):
    with pytest.raises((TypeError, ValueError), match=words):
        MGSMetrics(X, images=given)


def test_a_folder_that_cannot_be_made_is_refused_before_the_first_step(tmp_path):
    model, file = network(), tmp_path / "file"
    file.touch()
    before = model.get_weights()
    with pytest.raises(ValueError, match="Expected `images` to be a folder.*file is not a dir"):
        fitted(model, MGSMetrics(X, images=file))
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize(
    "module, words", [("matplotlib", r"keras_mgs\[plot\]"), ("tensorboard", "install tensorboard")]
)
def test_only_images_need_matplotlib_and_tensorboard(module, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words):
        MGSMetrics(X, images=tmp_path)
    assert not list(tmp_path.iterdir())
    assert fitted(network(), MGSMetrics(X), epochs=1)["mgs_trace"]
