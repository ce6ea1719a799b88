import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import keras_mgs
from keras_mgs import storage
from keras_mgs.__main__ import main
from keras_mgs.experiments.reports import figures
from keras_mgs.experiments.score import score


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def network():
    """A network of 8 × 8 images of one channel, saved."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(6, "relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(4, "softmax")])
    model.save("model.keras")
    return model


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
LABELS = np.arange(20) % 4
SCALED = IMAGES[..., None].astype("float32") / 255


JUDGED = ["index", "given", "predicted", "label_score", "trace", "share", "rank"]
REGRESSION = ["index", "label_score", "trace", "share", "rank"]


def test_the_numbers_are_those_of_label_scores_and_sample_traces(network):
    np.savez("data.npz", x=IMAGES, y=LABELS)
    scores = score("model.keras", "data.npz", out="out", batch_size=7)
    assert list(scores) == JUDGED
    doubts = keras_mgs.label_scores(network, SCALED, LABELS)
    np.testing.assert_allclose(scores["label_score"], doubts, atol=1e-6)
    trace = keras_mgs.sample_traces(network, SCALED).numpy()
    np.testing.assert_allclose(scores["trace"], trace, rtol=1e-6)
    np.testing.assert_allclose(scores["share"], trace / trace.sum(), rtol=1e-6)
    assert scores["share"].sum() == pytest.approx(1)
    assert scores["given"].tolist() == LABELS.tolist()
    predicted = network.predict(SCALED, verbose=0).argmax(axis=1)
    assert scores["predicted"].tolist() == predicted.tolist()
    by_rank = scores.sort_values("rank")
    assert by_rank["rank"].tolist() == list(range(1, 21))
    assert by_rank["label_score"].is_monotonic_decreasing
    assert scores["index"].tolist() == list(range(20))


def test_the_folder_holds_the_table_and_a_picture(network):
    np.savez("data.npz", x=IMAGES, y=LABELS)
    scores = score("model.keras", "data.npz", out="some/out", top=3)
    assert sorted(p.name for p in Path("some/out").iterdir()) == ["scores.csv", "suspects.png"]
    assert [p.name for p in Path("some").iterdir()] == ["out"]  # no temporary folder is left
    pd.testing.assert_frame_equal(pd.read_csv("some/out/scores.csv"), scores)
    assert Path("some/out/suspects.png").read_bytes().startswith(b"\x89PNG")


def test_the_layout_of_mnist_is_read_for_its_training_samples(network):
    np.savez("data.npz", x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:3], y_test=[0] * 3)
    scores = score("model.keras", "data.npz", out="out")
    assert scores["given"].tolist() == LABELS.tolist()


def test_without_labels_there_is_no_score_of_them_and_the_shares_sort(network):
    np.savez("data.npz", x=SCALED)
    scores = score("model.keras", "data.npz", out="out")
    assert list(scores) == ["index", "predicted", "trace", "share", "rank"]
    assert scores.sort_values("rank")["trace"].is_monotonic_decreasing


@pytest.mark.parametrize("labels", [LABELS.astype("float32"), np.eye(4)[LABELS]])
def test_labels_may_be_whole_floats_or_one_hot(labels, network):
    np.savez("data.npz", x=SCALED, y=labels)
    assert score("model.keras", "data.npz", out="out")["given"].tolist() == LABELS.tolist()


def test_an_mgs_model_is_scored_as_the_network_in_it(network):
    keras_mgs.MGSModel(network).save("mgs.keras")
    np.savez("data.npz", x=IMAGES)
    a = score("model.keras", "data.npz", out="a")
    b = score("mgs.keras", "data.npz", out="b")
    pd.testing.assert_frame_equal(a, b)


def test_images_of_bytes_can_be_left_as_they_are(network):
    np.savez("data.npz", x=IMAGES)
    assert main(["score", "model.keras", "data.npz", "--out", "out", "--no-scaling"]) == 0
    trace = keras_mgs.sample_traces(network, IMAGES[..., None].astype("float32"))
    np.testing.assert_allclose(pd.read_csv("out/scores.csv")["trace"], trace, rtol=1e-6)


def test_bytes_that_are_no_images_are_not_scaled():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save("model.keras")
    x = np.array([[0, 0, 0], [1, 1, 1], [2, 0, 0]], "uint8")
    np.savez("data.npz", x=x)
    scores = score("model.keras", "data.npz", out="out")
    assert scores["trace"].tolist() == [2, 8, 10]
    assert scores["rank"].tolist() == [3, 2, 1]


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("labels", [{}, {"y": [0, 0, 1]}])
def test_the_class_of_one_output_is_its_sign(activation, labels):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation=activation)])
    model.set_weights([np.array([[1.0]]), np.array([-0.1])])
    model.save("model.keras")
    np.savez("data.npz", x=[[-1.0], [0.05], [0.2]], **labels)
    scores = score("model.keras", "data.npz", out="out", kind="classes")
    assert scores["predicted"].tolist() == [0, 0, 1]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "loss, doubts",
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), [0.5, 0.5]),
        ("mse", [0.0, 1.0]),
        (None, "kind"),
        (lambda y, f: f - y, "kind"),
    ],
)
def test_the_loss_in_the_file_tells_labels_from_numbers(loss, doubts, wrapped, capsys):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model = keras_mgs.MGSModel(model) if wrapped else model
    if loss is not None:
        model.compile("sgd", loss)
    model.save("model.keras")
    np.savez("data.npz", x=[[0.0], [0.0]], y=[0, 1])
    arguments = ["score", "model.keras", "data.npz", "--out", "out"]
    if doubts == "kind":
        assert main(arguments) == 2
        assert "kind='regression'" in capsys.readouterr().err
        doubts, arguments = [0.0, 1.0], [*arguments, "--kind", "regression"]
    assert main(arguments) == 0
    assert pd.read_csv("out/scores.csv")["label_score"].tolist() == doubts


def test_targets_of_a_regression_are_no_classes(network):
    targets = np.random.default_rng(0).random((20, 4))
    np.savez("data.npz", x=SCALED, y=targets)
    scores = score("model.keras", "data.npz", out="out")
    assert list(scores) == REGRESSION
    residuals = np.linalg.norm(network.predict(SCALED, verbose=0) - targets, axis=1)
    np.testing.assert_allclose(scores["label_score"], residuals, rtol=1e-5)


def test_a_single_target_is_beside_what_the_model_returns():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[2.0]])])
    model.save("model.keras")
    np.savez("data.npz", x=[[1.0], [2.0]], y=[1.5, 4.25])
    scores = score("model.keras", "data.npz", out="out")
    assert list(scores) == JUDGED
    assert scores["given"].tolist() == [1.5, 4.25] and scores["predicted"].tolist() == [2, 4]
    assert scores["label_score"].tolist() == [0.5, 0.25] and scores["rank"].tolist() == [1, 2]


def test_several_labels_per_sample_have_a_score(here):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "sigmoid")])
    model.save("model.keras")
    y = np.array([[1, 0, 1], [0, 0, 0]])
    np.savez("data.npz", x=np.ones((2, 2)), y=y)
    scores = score("model.keras", "data.npz", out="out")
    assert list(scores) == REGRESSION
    right = keras_mgs.label_scores(model, np.ones((2, 2)), y)
    np.testing.assert_allclose(scores["label_score"], right, rtol=1e-6)


def test_images_are_drawn_as_images_with_their_classes():
    scores = pd.DataFrame(
        {"index": [7, 2], "given": [1, 0], "predicted": [3, 0], "label_score": [0.98, 0.5]}
    ).assign(trace=[4.0, 1.0], share=[0.8, 0.2])
    figure = figures.suspects(IMAGES, scores)
    images = [axis.images[0].get_array() for axis in figure.axes]
    low, high = IMAGES.min(), IMAGES.max()
    for image, index in zip(images, (7, 2), strict=True):
        np.testing.assert_allclose(image, (IMAGES[index].astype(float) - low) / (high - low))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "#7\ngiven 1, predicted 3\nscore 0.980"
    without = figures.suspects(IMAGES, scores.drop(columns=["given", "label_score"]))
    assert without.axes[0].get_title() == "#7\npredicted 3\n80.00% of tr K"


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_grey_and_coloured_images_are_both_drawn(shape):
    scores = pd.DataFrame({"index": [0], "trace": [4.0], "share": [1.0]})
    figure = figures.suspects(np.random.rand(2, *shape), scores)
    figure.draw_without_rendering()
    assert len(figure.axes[0].images) == 1


def test_other_data_are_bars_of_the_traces_the_highest_on_top():
    scores = pd.DataFrame({"index": [7, 2], "predicted": [3, 0], "trace": [4.0, 1.0]})
    figure = figures.suspects(np.zeros((9, 5)), scores.assign(share=0.5))
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [4.0, 1.0]
    ticks = [text.get_text() for text in axis.get_yticklabels()]
    assert ticks == ["#7: predicted 3", "#2: predicted 0"]
    assert axis.yaxis_inverted()
    assert "(sum of squared gradients)" in axis.get_xlabel()


def test_bars_are_of_the_label_scores_where_there_are_labels():
    scores = pd.DataFrame({"index": [7], "given": [12345], "predicted": [3], "label_score": [0.9]})
    (axis,) = figures.suspects(np.zeros((9, 5)), scores.assign(trace=4.0, share=0.5)).axes
    assert [bar.get_width() for bar in axis.patches] == [0.9]
    assert axis.get_yticklabels()[0].get_text() == "#7: given 12345, predicted 3"
    assert axis.get_xlabel() == "label score"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["no.keras", "good.npz"], ["existing .keras file", "Received: model='no.keras'"]),
        (["good.npz", "good.npz"], ["whole .keras file", "Received: model='good.npz'", "not a"]),
        (["broken.keras", "good.npz"], ["whole .keras file", "Received: model='broken.keras'"]),
        (["odd.keras", "good.npz"], ["whole .keras file", "Received: model='odd.keras'"]),
        (["model.keras", "no.npz"], ["existing .npz file", "Received: data='no.npz'"]),
        (["model.keras", "model.keras"], ["arrays x and optionally y, or x_train", "Received"]),
        (["model.keras", "keys.npz"], ["arrays x and optionally y, or x_train", "['a']"]),
        (["model.keras", "pickle.npz"], ["without pickled objects", "Received"]),
        (["model.keras", "shape.npz"], ["(None, 8, 8, 1)", "Received: (20, 5)"]),
        (["model.keras", "nan.npz"], ["finite", "Received", "1280 NaN"]),
        (["model.keras", "length.npz"], ["x and y must have one length", "20 and 3"]),
        (["model.keras", "words.npz"], ["`y`", "numbers", "Received: dtype <U1"]),
        (["model.keras", "classes.npz"], ["`y`", "from 0 to 3", "Received: 4"]),
        (["model.keras", "good.npz", "--top", "0"], ["`top`", "Received: top=0"]),
        (["model.keras", "good.npz", "--top", "1001"], ["at most 1000", "Received: top=1001"]),
        (["model.keras", "complex.npz"], ["numbers", "Received", "complex64"]),
        (["bomb.keras", "good.npz"], ["bomb.keras", "it unpacks to 0.0156 GiB"]),
        (["model.keras", "good.npz", "--batch-size", "-1"], ["Received: batch_size=-1"]),
        (["model.keras", "good.npz", "--out", "full"], ["new or empty", "out='full'"]),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_nothing_is_written(
    arguments, words, network, here, monkeypatch, capsys
):
    class Odd(keras.layers.Dense):
        pass

    keras.Sequential([keras.Input((2,)), Odd(1)]).save("odd.keras")
    Path("broken.keras").write_bytes(b"PK\x03\x04 and then the network went away")
    Path("full").mkdir()
    Path("full/thesis.txt").touch()
    np.savez("good.npz", x=IMAGES, y=LABELS)
    np.savez("keys.npz", a=np.zeros(3))
    np.savez("pickle.npz", x=np.array([{}, {}]))
    np.savez("shape.npz", x=np.zeros((20, 5)))
    np.savez("nan.npz", x=np.full_like(SCALED, np.nan))
    np.savez("length.npz", x=IMAGES, y=LABELS[:3])
    np.savez("words.npz", x=IMAGES, y=["a"] * 20)
    np.savez("classes.npz", x=IMAGES, y=LABELS + 1)
    np.savez("complex.npz", x=SCALED.astype("complex64"))
    with zipfile.ZipFile("bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(2**24))
    monkeypatch.setattr(storage, "free_memory", lambda: 2**25)
    before = sorted(here.rglob("*"))
    assert main(["score", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-mgs: error: ") and error.count("\n") == 1
    for word in words:
        assert word in error
    assert sorted(here.rglob("*")) == before


def test_nothing_half_written_is_left_by_an_interrupted_job(network, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    np.savez("data.npz", x=IMAGES)
    monkeypatch.setattr(figures, "suspects", interrupt)
    with pytest.raises(KeyboardInterrupt):
        score("model.keras", "data.npz", out="some/out")
    assert not list(Path("some").iterdir())


def test_the_command_prints_the_highest_and_writes_a_folder_of_its_own(network, here):
    np.savez("data.npz", x=IMAGES, y=LABELS)
    command = [sys.executable, "-m", "keras_mgs", "score", "model.keras", "data.npz", "--top", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (folder,) = Path("results").iterdir()
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores) == 20
    for index in scores.nsmallest(2, "rank")["index"]:
        assert str(index) in done.stdout
    assert f"Written to {folder}" in done.stdout.replace("\n", "")
