"""Models with methods of training of their own: at alpha=0 MGSModel trains as they train alone."""

import keras
import numpy as np
import pytest
from fitting import same_weights
from keras import layers, ops
from problems import TwoLayers, built

from keras_mgs import MGSModel, TracePenalty

pytestmark = pytest.mark.usefixtures("float64")


class OwnLoss(TwoLayers):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 3.0 * ops.mean(ops.abs(y - y_pred))


class LossAndMore(TwoLayers):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):  # as in Keras 3.0
        return super().compute_loss(x, y, y_pred, sample_weight) + 0.1 * ops.mean(y_pred**2)


class OwnTracker(TwoLayers):
    """As in the guide of Keras: a tracker that `compute_loss` updates."""

    def __init__(self):
        super().__init__()
        self.tracker = keras.metrics.Mean(name="distance")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = ops.mean(ops.square(y - y_pred)) + sum(self.losses)
        self.tracker.update_state(loss)
        return loss

    @property
    def metrics(self):
        return [self.tracker]


class TrackerInCall(TwoLayers):
    def __init__(self):
        super().__init__()
        self.tracker = keras.metrics.Mean(name="activity")

    def call(self, x):
        h = self.hidden(x)
        self.tracker.update_state(ops.mean(h**2))
        return self.head(h)


class OwnMetrics(TwoLayers):
    def __init__(self):
        super().__init__()
        self.largest = keras.metrics.Mean(name="largest")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.largest.update_state(ops.max(ops.abs(y_pred)))
        return super().compute_metrics(x, y, y_pred, sample_weight)


class MetricsOfItsOwn(TwoLayers):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {"widest": ops.max(y_pred) - ops.min(y_pred)}


class OwnTest(TwoLayers):
    """As in the guide of Keras: it goes through all metrics that there are."""

    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(2.0 * loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


class OwnPrediction(TwoLayers):
    def predict_step(self, data):
        return ops.softmax(super().predict_step(data))


class Preprocessing(TwoLayers):
    """As models that bring a preprocessor along."""

    def fit(self, x=None, y=None, validation_data=None, **kwargs):
        if validation_data is not None:
            validation_data = (validation_data[0] / 255.0, validation_data[1])
        return super().fit(x / 255.0, y, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        return super().evaluate(x / 255.0, y, **kwargs)

    def predict(self, x, **kwargs):
        return super().predict(x / 255.0, **kwargs)

    def train_on_batch(self, x, y=None, **kwargs):
        return super().train_on_batch(x / 255.0, y, **kwargs)


class OwnCompile(TwoLayers):
    def compile(self, optimizer="sgd", loss=None, **kwargs):
        super().compile(optimizer, loss, **kwargs)
        self.factor = 2.0

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.factor * super().compute_loss(x, y, y_pred, sample_weight, training)


class FunctionalLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


def functional():
    inputs = keras.Input((3,))
    return FunctionalLoss(inputs, layers.Dense(2)(layers.Dense(4, "tanh")(inputs)))


MODELS = {
    kind.__name__: lambda kind=kind: built(kind)
    for kind in (
        OwnLoss, LossAndMore, OwnTracker, TrackerInCall, OwnMetrics, MetricsOfItsOwn, OwnTest,
        OwnPrediction, Preprocessing, OwnCompile,
    )
}  # fmt: skip
MODELS["FunctionalLoss"] = functional


def made(name):
    keras.utils.set_random_seed(0)
    return MODELS[name]()


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, 3)), rng.normal(size=(24, 2))


def without_ours(logs):
    return {key: value for key, value in logs.items() if not key.startswith("mgs_")}


@pytest.mark.parametrize("name", MODELS)
def test_without_a_penalty_all_is_as_the_model_does_it_alone(name):
    x, y = data()
    plain, mgs = made(name), MGSModel(made(name), TracePenalty(0.0, every=2))
    found = []
    for model in (plain, mgs):
        listed = None if name == "MetricsOfItsOwn" else ["mae"]  # which Keras would miss
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=listed)
        options = {"batch_size": 8, "shuffle": False, "verbose": 0}
        history = model.fit(x, y, epochs=2, validation_data=(x[:8], y[:8]), **options).history
        evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
        found.append((without_ours(history), evaluated, model.predict(x, verbose=0)))
    same_weights(mgs.model, plain)
    (history, evaluated, predicted), (ours, our_evaluated, our_predicted) = found
    losses = {"loss", "val_loss"}
    # A loss is reported even where the model's own metrics leave it out.
    assert ours.keys() | losses == history.keys() | losses
    for key in history:
        np.testing.assert_allclose(ours[key], history[key], rtol=1e-9, err_msg=key)
    for key in evaluated:
        np.testing.assert_allclose(our_evaluated[key], evaluated[key], rtol=1e-9, err_msg=key)
    assert not {"mgs_penalty", "mgs_alpha"} & our_evaluated.keys()
    np.testing.assert_allclose(our_predicted, predicted, rtol=1e-9)


@pytest.mark.parametrize("name", ["LossAndMore", "MetricsOfItsOwn", "Preprocessing"])
def test_history_has_the_penalty_too_and_it_acts(name):
    x, y = data()
    plain, mgs = made(name), MGSModel(made(name), TracePenalty(1e-2, every=1))
    for model in (plain, mgs):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
    assert history["mgs_alpha"] == [1e-2] and history["mgs_penalty"][0] > 0
    assert not np.allclose(mgs.model.get_weights()[0], plain.get_weights()[0], atol=1e-9)


def test_single_batches_are_preprocessed_too():
    x, y = data()
    plain, mgs = made("Preprocessing"), MGSModel(made("Preprocessing"), alpha=0.0)
    for model in (plain, mgs):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(x, y)
    same_weights(mgs.model, plain)


def test_the_wrapped_model_stays_what_it_was():
    x, y = data()
    model = made("OwnTracker")
    mgs = MGSModel(model)
    mgs.compile("sgd", "mse")
    mgs.fit(x, y, verbose=0)
    assert type(model) is OwnTracker and not model.compiled


def test_automatic_alpha_goes_by_a_loss_of_the_models_own():
    x, y = data()
    y = x[:, :2]  # which can be learnt
    mgs = MGSModel(made("OwnLoss"), TracePenalty(every=1))
    mgs.compile(keras.optimizers.SGD(0.05))
    mgs.fit(x, y, epochs=30, batch_size=8, verbose=0)
    assert mgs.alpha > 0


class OwnStep(TwoLayers):
    def train_step(self, data):
        return {}


def test_a_training_step_of_the_models_own_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"OwnStep 'own_step.*TracePenalty\(alpha\)\(model, x"):
        MGSModel(built(OwnStep))
    instance = made("OwnLoss")
    instance.train_step = lambda data: {}
    with pytest.raises(ValueError, match="train_step"):
        MGSModel(instance)
    with pytest.raises(ValueError, match="train_step"):
        MGSModel(MGSModel(made("OwnLoss")))
