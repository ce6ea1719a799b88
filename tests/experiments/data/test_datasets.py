"""Tests of the data: blur, noise, subsets, the two file layouts and every kind of bad input."""

import hashlib
import math
import os
import sys
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from keras_mgs import storage
from keras_mgs.experiments.catalogue.names import NOISES
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.data.dataset import Dataset
from keras_mgs.experiments.data.datasets import load
from keras_mgs.experiments.data.files import read_npz
from keras_mgs.experiments.data.missing import remove
from keras_mgs.experiments.data.motion_blur import SEVERITIES, motion_blur
from keras_mgs.experiments.data.noise import (
    add_target_noise,
    corrupt_labels,
    mistaken_labels,
    resample_labels,
)

seeds = st.integers(0, 2**32 - 1)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def random_images(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def same(a: Dataset, b: Dataset, *names):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names or ARRAYS)


# Motion blur


def slow_blur(images, angles, radius=10.0, sigma=3.0):
    """The definition, pixel by pixel: a one-sided Gaussian, whole offsets, 16-bit rounding."""
    taps = 2 * math.ceil(radius) + 1
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(taps)]
    out = np.empty_like(images)
    for n, y, x in np.ndindex(images.shape):
        theta = math.radians(float(angles[n]))
        total = 0.0
        for i, weight in enumerate(weights):
            dx = math.ceil(i * math.cos(theta) - 0.5)
            dy = math.ceil(i * math.sin(theta) - 0.5)
            row = min(max(y + dy, 0), images.shape[1] - 1)
            column = min(max(x + dx, 0), images.shape[2] - 1)
            total += weight / sum(weights) * int(images[n, row, column])
        out[n, y, x] = math.floor(257 * total + 0.5) // 257
    return out


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    severity=st.sampled_from(sorted(SEVERITIES)),
)
def test_blur_is_the_slow_definition(seed, shape, severity):
    images = random_images(seed, shape)
    angles = np.random.default_rng(seed).uniform(-180, 180, shape[0])
    expected = slow_blur(images, angles, *SEVERITIES[severity])
    np.testing.assert_array_equal(motion_blur(images, angles, *SEVERITIES[severity]), expected)


@pytest.mark.parametrize("radius, sigma", [(0.5, 0.2), (1, 1), (2.5, 40.0)])
def test_blur_takes_other_radii(radius, sigma):
    images, angles = random_images(0, (4, 5, 6)), np.array([-45.0, 0.0, 12.5, 45.0])
    expected = slow_blur(images, angles, radius, sigma)
    np.testing.assert_array_equal(motion_blur(images, angles, radius, sigma), expected)


@given(level=st.integers(0, 255), angle=st.floats(-45, 45), severity=st.sampled_from([1, 2, 5]))
@settings(max_examples=30, deadline=None)
def test_blur_keeps_a_constant_image(level, angle, severity):
    images = np.full((1, 9, 9), level, np.uint8)
    np.testing.assert_array_equal(motion_blur(images, [angle], *SEVERITIES[severity]), images)


def test_blur_draws_a_dot_against_its_direction():
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 10, 25] = 255
    rows, columns = np.nonzero(motion_blur(images, [0.0])[0])
    assert set(rows) == {10} and columns.max() == 25 and columns.min() < 20


def test_blur_of_many_images_is_that_of_each():
    images = random_images(1, (400, 28, 28))  # more than a chunk of one angle
    angles = np.full(400, 17.0)
    one_by_one = [motion_blur(images[[i]], angles[[i]])[0] for i in range(400)]
    np.testing.assert_array_equal(motion_blur(images, angles), one_by_one)
    assert motion_blur(images[:0], angles[:0]).shape == (0, 28, 28)


def test_blur_has_not_changed():
    # The digest of an implementation that gave back all 70,000 blurred images of the real file.
    random = np.random.RandomState(0)  # its stream is frozen
    images = random.randint(0, 256, (64, 28, 28), dtype=np.uint8)
    images[32:] = np.where(images[32:] < 128, 0, 255)
    angles = random.uniform(-45, 45, 64).astype(np.float32)
    digest = hashlib.sha256(motion_blur(images, angles).tobytes()).hexdigest()
    assert digest == "7d3dfece76b51f3b6890a0fcd0a92c9dcb72e138e4a8070e2f14dacb67f594b4"


@pytest.fixture
def mnist_folder(tmp_path):
    """The folder of the real files where KERAS_MGS_DATA names one, else small ones like them."""
    real = Path(os.environ.get("KERAS_MGS_DATA", tmp_path))
    names = ("mnist.npz", "mnist_motion_blur.npz")
    if all((real / name).is_file() for name in names):
        return real
    clean, blurred = image_arrays(n=12, side=10), image_arrays(n=12, side=10)
    for part in ("train", "test"):
        x = clean[f"x_{part}"]
        angles = np.random.default_rng(3).uniform(-45, 45, len(x)).astype(np.float32)
        blurred |= {f"x_{part}": slow_blur(x, angles), f"angle_{part}": angles}
    for name, arrays in zip(names, (clean, blurred), strict=True):
        np.savez_compressed(tmp_path / name, **arrays)
    return tmp_path


@pytest.mark.slow
def test_blur_gives_back_the_stored_images(mnist_folder):
    with (
        np.load(mnist_folder / "mnist.npz", allow_pickle=False) as clean,
        np.load(mnist_folder / "mnist_motion_blur.npz", allow_pickle=False) as blurred,
    ):
        for part in ("train", "test"):
            ours = motion_blur(clean[f"x_{part}"], blurred[f"angle_{part}"])
            assert np.count_nonzero(ours != blurred[f"x_{part}"]) == 0


@pytest.mark.parametrize(
    "images, angles, options, words",
    [
        (np.zeros((2, 4, 4)), [0, 0], {}, ["uint8", "float64"]),
        (np.zeros((4, 4), np.uint8), [0] * 4, {}, ["(n, h, w)", "(4, 4)"]),
        (np.zeros((2, 4, 4), np.uint8), [0], {}, ["2 finite numbers", "(1,)"]),
        (np.zeros((1, 4, 4), np.uint8), [math.nan], {}, ["finite"]),
        (np.zeros((1, 4, 4), np.uint8), ["a"], {}, ["finite numbers"]),
        (np.zeros((1, 4, 4), np.uint8), [0], {"radius": 0}, ["radius=0"]),
        (np.zeros((1, 4, 4), np.uint8), [0], {"sigma": math.nan}, ["sigma=nan"]),
    ],
)
def test_blur_refuses(images, angles, options, words):
    with pytest.raises(ValueError) as caught:
        motion_blur(images, angles, **options)
    assert all(word in str(caught.value) for word in [*words, "Received:"])


# Label noise


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(0, 200), share=st.floats(0, 1), classes=st.integers(1, 12))
def test_resampling_touches_the_share_and_no_more(seed, n, share, classes):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n).astype(np.int32)
    before = y.copy()
    noisy = resample_labels(y, share, classes, rng)
    np.testing.assert_array_equal(y, before)
    assert noisy.dtype == y.dtype and noisy.shape == y.shape
    assert np.all((noisy >= 0) & (noisy < classes))
    assert np.count_nonzero(noisy != y) <= round(share * n)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, share=st.floats(0, 1))
def test_resampling_takes_exactly_the_share(seed, share):
    # No fresh label is -1, so that every one drawn shows.
    y = np.full(150, -1)
    noisy = resample_labels(y, share, 10, np.random.default_rng(seed))
    assert np.count_nonzero(noisy != y) == round(share * len(y))


@pytest.mark.parametrize("share, classes", [(0.25, 2), (0.5, 10), (1.0, 10)])
def test_resampling_is_uniform_over_all_classes(share, classes):
    rng = np.random.default_rng(5)
    y = np.zeros(40_000, np.int32)
    noisy = resample_labels(y, share, classes, rng)
    expected = share * (classes - 1) / classes
    assert np.mean(noisy != y) == pytest.approx(expected, abs=0.012)
    others = np.bincount(noisy, minlength=classes)[1:]
    assert others == pytest.approx(np.full(classes - 1, len(y) * share / classes), rel=0.12)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, share=st.floats(0, 1), classes=st.integers(2, 5), kind=st.sampled_from(NOISES))
def test_every_kind_of_noise_changes_the_share_in_a_copy_the_same_for_a_seed(
    seed, share, classes, kind
):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 3, 2))
    y = rng.permutation(np.arange(40) % classes).astype(np.int32)
    before = y.copy()
    noisy, again = (
        corrupt_labels(kind, x, y, share, classes, np.random.default_rng(seed)) for _ in range(2)
    )
    np.testing.assert_array_equal(noisy, again)
    np.testing.assert_array_equal(y, before)
    assert noisy.dtype == y.dtype and np.all((noisy >= 0) & (noisy < classes))
    changed = np.count_nonzero(noisy != y)
    if kind == "uniform":
        assert changed <= round(share * 40)
    else:  # which leave no label as it is
        assert changed == round(share * 40)
    if kind == "pair":
        assert np.all((noisy == y) | (noisy == (y + 1) % classes))


def test_a_weak_model_mistakes_what_looks_alike():
    """Of classes on a line, those beside each other; and the samples between them."""
    y, times = np.arange(3000, dtype=np.int32) % 3, []
    for seed in range(12):  # each a weak model of its own, some of which know more than others
        rng = np.random.default_rng(seed)
        x = (y + 0.4 * rng.standard_normal(3000))[:, None]
        noisy = mistaken_labels(x, y, 0.2, 3, rng)
        wrong, between = noisy != y, abs(x[:, 0] - y) > 0.3
        assert np.mean(abs(noisy[wrong] - y[wrong]) == 1) > 0.9
        times.append(wrong[between].mean() / wrong[~between].mean())
    assert np.mean(times) > 3


def test_a_weak_model_that_would_see_one_class_alone_sees_all_samples():
    """Four of forty samples may well be of one class, and of these scikit-learn tells nothing."""
    x, y = np.arange(40.0)[:, None], np.repeat(np.array([0, 1], np.int32), [38, 2])
    for seed in range(5):
        noisy = mistaken_labels(x, y, 0.25, 2, np.random.default_rng(seed))
        assert np.count_nonzero(noisy != y) == 10


@pytest.mark.parametrize("kind", NOISES)
def test_a_dataset_has_the_noise_of_its_kind(kind):
    clean, noisy = (load("digits", label_noise=s, noise_kind=kind, seed=3) for s in (0.0, 0.3))
    assert same(clean, noisy, "x_train", "x_test", "y_test")
    expected = 0.27 if kind == "uniform" else 0.3
    assert np.mean(clean.y_train != noisy.y_train) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("kind", NOISES)
def test_a_dataset_knows_its_noise(kind):
    clean, noisy = load("digits"), load("digits", label_noise=0.4, noise_kind=kind)
    np.testing.assert_array_equal(noisy.y_clean, clean.y_train)
    for i, j in np.ndindex(10, 10):
        of_class = noisy.y_train[clean.y_train == i]
        assert noisy.noise_matrix[i, j] == pytest.approx(np.mean(of_class == j), rel=1e-9)
    assert noisy.noise_share == np.mean(noisy.y_train != clean.y_train) > 0.3
    if kind == "pair":
        assert np.count_nonzero(noisy.noise_matrix) == 20
    np.testing.assert_array_equal(clean.noise_matrix, np.eye(10))
    assert clean.noise_share == 0


def test_the_noise_of_a_class_without_training_samples_is_none():
    x, y = np.zeros((3, 2), "float32"), np.array([0, 2, 0], "int32")
    data = Dataset("d", "classification", x, y, x, y, y_clean=np.array([0, 0, 2], "int32"))
    expected = [[0.5, 0, 0.5], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(data.noise_matrix, expected)
    assert data.noise_share == pytest.approx(2 / 3)
    as_it_is = Dataset("d", "classification", x, y, x, y)
    np.testing.assert_array_equal(as_it_is.noise_matrix, np.eye(3))
    assert as_it_is.noise_share == 0


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([(50, 8, 8, 3), (400, 6), (100, 4, 3)]), st.floats(0.05, 0.95))
def test_missing_values_are_the_share_and_zero_and_of_a_pixel_all_channels(seed, shape, share):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype("float32")
    before = x.copy()
    found = remove(x, share, rng)
    np.testing.assert_array_equal(x, before)
    gone = found == 0
    np.testing.assert_array_equal(found[~gone], x[~gone])
    assert found.dtype == x.dtype
    if len(shape) == 4:
        assert (gone.all(axis=-1) == gone.any(axis=-1)).all()
        gone = gone[..., 0]
    assert abs(gone.mean() - share) < 5 * math.sqrt(share * (1 - share) / gone.size)


def test_missing_values_are_drawn_anew_for_every_sample_and_leave_all_else():
    whole, holed = (
        load("digits", label_noise=0.5),
        load("digits", label_noise=0.5, missing_share=0.3),
    )
    assert same(whole, holed, "y_train", "y_test", "y_clean")
    gone = (whole.x_train > 0) & (holed.x_train == 0)
    assert len(np.unique(gone.reshape(len(gone), -1), axis=0)) == len(gone)
    assert not np.array_equal(gone[:700], (whole.x_test > 0)[:700] & (holed.x_test[:700] == 0))
    again = load("digits", label_noise=0.5, missing_share=0.3)
    assert same(holed, again)
    assert same(load("digits", label_noise=0.5, missing_share=0.0), whole)


def test_a_missing_feature_of_a_table_is_its_mean():
    whole, holed = load("wine"), load("wine", missing_share=0.25)
    assert 0.2 < np.mean(holed.x_train == 0) < 0.3 and 0.2 < np.mean(holed.x_test == 0) < 0.3
    assert np.abs(whole.x_train.mean(axis=0)).max() < 1e-5  # so 0 is the mean


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "half", True, None])
def test_a_share_of_missing_values_is_refused(share):
    with pytest.raises(ValueError, match="`missing` must be a share between 0 and 1. Received"):
        load("digits", missing_share=share)


def test_target_noise_has_the_given_deviation():
    y = np.full((4000, 3), 50, np.float32)
    noisy = add_target_noise(y, 2.5, np.random.default_rng(0))
    assert noisy.dtype == np.float32 and np.all(y == 50)
    assert noisy.std() == pytest.approx(2.5, rel=0.03)
    assert noisy.mean() == pytest.approx(50, abs=0.1)
    np.testing.assert_array_equal(add_target_noise(y, 0, np.random.default_rng(0)), y)


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf, "0.1", None, True, 1j])
def test_noise_refuses(noise):
    with pytest.raises(ValueError, match="label_noise.*Received"):
        resample_labels(np.zeros(3, int), noise, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="label_noise.*Received"):
        add_target_noise(np.zeros((3, 1)), noise, np.random.default_rng(0))


def test_no_share_is_above_one():
    with pytest.raises(ValueError, match="between 0 and 1.*Received: label_noise=1.5"):
        resample_labels(np.zeros(3, int), 1.5, 2, np.random.default_rng(0))


# Digits


def test_digits_are_stratified_and_disjoint():
    data = load("digits")
    assert (data.name, data.task, data.outputs) == ("digits", "classification", 10)
    assert data.x_train.shape == (1000, 8, 8, 1) and data.x_test.shape == (797, 8, 8, 1)
    assert data.x_train.dtype == np.float32 and data.y_train.dtype == np.int32
    assert data.x_train.min() == 0 and data.x_train.max() == 1
    whole = np.bincount(load_digits().target)
    assert np.all(np.abs(np.bincount(data.y_train) - whole * 1000 / 1797) <= 1)
    # Every image of the source is in one of the parts: none is in both, none is lost.
    images = np.concatenate([data.x_train, data.x_test])[..., 0] * 16
    np.testing.assert_array_equal(
        np.unique(images.reshape(-1, 64), axis=0),
        np.unique(load_digits().images.reshape(-1, 64), axis=0),
    )


def test_the_seed_decides():
    assert same(load("digits", seed=3, label_noise=0.3), load("digits", seed=3, label_noise=0.3))
    assert not same(load("digits", seed=3), load("digits", seed=4), "x_train")


@pytest.mark.parametrize("size", [10, 200, 993, 1000])
def test_a_smaller_training_set_is_stratified_and_leaves_the_test_set(size):
    data = load("digits", training_size=size)
    assert len(data.x_train) == len(data.y_train) == size
    share = np.bincount(load("digits").y_train) * size / 1000
    assert np.all(np.abs(np.bincount(data.y_train, minlength=10) - share) <= 1)
    assert same(data, load("digits"), "x_test", "y_test")


def test_noise_leaves_the_test_set_and_the_choice_of_samples():
    clean, noisy = load("digits"), load("digits", label_noise=0.5)
    assert same(clean, noisy, "x_train", "x_test", "y_test")
    assert 0.4 < np.mean(clean.y_train != noisy.y_train) < 0.5


# Files


def image_arrays(n=40, side=6, classes=4, seed=0):
    """The layout of keras.datasets.mnist, every class in both parts."""
    labels = np.arange(n, dtype=np.uint8) % classes
    return {
        "x_train": random_images(seed, (n, side, side)),
        "y_train": labels,
        "x_test": random_images(seed + 1, (n // 2, side, side)),
        "y_test": labels[: n // 2],
    }


def keypoint_arrays(n=30, split=True):
    rng = np.random.default_rng(0)
    arrays = {
        "x": random_images(0, (n, 6, 6)),
        "y": rng.uniform(0, 6, (n, 4)).astype(np.float32),
        "keypoint_names": np.array(["a", "b", "c", "d"]),
    }
    return arrays | ({"split": np.arange(n, dtype=np.uint8) % 3} if split else {})


def save(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def test_image_file(tmp_path):
    arrays = image_arrays()
    data = load(save(tmp_path / "small.npz", arrays))
    assert (data.name, data.task, data.outputs) == ("small", "classification", 4)
    assert [getattr(data, name).dtype for name in ARRAYS] == ["float32", "int32"] * 2
    scaled = arrays["x_test"][..., None].astype(np.float32) / 255
    np.testing.assert_allclose(data.x_test, scaled, rtol=1e-6)
    np.testing.assert_array_equal(data.y_test, arrays["y_test"])
    # All samples, in another order, each still with its own label.
    pairs = {x.tobytes(): y for x, y in zip(arrays["x_train"], arrays["y_train"], strict=True)}
    for x, y in zip(np.rint(data.x_train * 255).astype(np.uint8), data.y_train, strict=True):
        assert pairs.pop(x.tobytes()) == y
    assert not pairs


def test_image_file_of_channels_floats_and_columns_of_labels(tmp_path):
    arrays = image_arrays()
    floats = {"x_train": arrays["x_train"][..., None].repeat(3, -1) / 255}
    floats["x_test"] = floats["x_train"][:20].astype(np.float16)
    floats |= {name: arrays[name].astype(np.int64)[:, None] for name in ("y_train", "y_test")}
    data = load(Path(save(tmp_path / "colour.npz", floats)))
    assert data.x_train.shape == (40, 6, 6, 3) and data.y_train.shape == (40,)
    assert data.x_test.dtype == np.float32 and data.x_train.max() <= 1
    np.testing.assert_array_equal(data.x_test, floats["x_test"].astype(np.float32))


def test_image_file_trains_on_3000_by_default(tmp_path):
    file = save(tmp_path / "large.npz", image_arrays(n=3200, side=2))
    data = load(file)
    assert np.bincount(data.y_train).tolist() == [750] * 4 and len(data.x_test) == 1600
    assert len(load(file, training_size=3200).x_train) == 3200


def test_corruption_blurs_the_drawn_samples(tmp_path):
    file = save(tmp_path / "small.npz", image_arrays(side=12))
    clean, blurred = (
        load(file, training_size=20),
        load(file, training_size=20, corruption="motion_blur"),
    )
    assert same(clean, blurred, "y_train", "y_test")
    assert not same(clean, blurred, "x_train") and not same(clean, blurred, "x_test")
    assert same(blurred, load(file, training_size=20, corruption="motion_blur"))
    smaller = load(file, training_size=10, corruption="motion_blur", label_noise=0.5)
    assert same(smaller, blurred, "x_test")


def test_corruption_draws_an_angle_per_image(tmp_path, monkeypatch):
    calls = []

    def record(images, angles, *severity):
        calls.append((angles, severity))
        return motion_blur(images, angles, *severity)

    monkeypatch.setattr("keras_mgs.experiments.data.motion_blur.motion_blur", record)
    file = save(tmp_path / "small.npz", image_arrays(n=800))
    data, clean = load(file, corruption="motion_blur"), load(file)
    (train, severity), (test, _) = calls
    assert severity == SEVERITIES[1] and len(train) == 800 and len(test) == 400
    for angles in (train, test):
        assert -45 <= angles.min() < -40 and 40 < angles.max() <= 45
        assert np.mean(angles < 0) == pytest.approx(0.5, abs=0.1)
    assert np.intersect1d(train, test).size == 0
    # Each image is its own clean one, blurred along its angle.
    levels = np.rint(clean.x_train[..., 0] * 255).astype(np.uint8)
    found = np.rint(data.x_train[..., 0] * 255)
    np.testing.assert_array_equal(found, motion_blur(levels, train))


def test_corruption_blurs_channels_alike(tmp_path):
    arrays = image_arrays()
    for name in ("x_train", "x_test"):
        arrays[name] = arrays[name][..., None].repeat(2, -1)
    data = load(save(tmp_path / "two.npz", arrays), corruption="motion_blur")
    np.testing.assert_array_equal(data.x_train[..., 0], data.x_train[..., 1])


def test_keypoint_file(tmp_path):
    arrays = keypoint_arrays()
    file = save(tmp_path / "faces.npz", arrays)
    data = load(file)
    assert (data.name, data.task, data.outputs) == ("faces", "regression", 4)
    assert data.x_train.shape == (10, 6, 6, 1) and data.x_train.dtype == np.float32
    assert data.y_train.shape == (10, 4) and data.y_train.dtype == np.float32
    order = np.argsort(data.y_train[:, 0])
    expected = arrays["y"][arrays["split"] == 0]
    np.testing.assert_array_equal(data.y_train[order], expected[np.argsort(expected[:, 0])])
    np.testing.assert_array_equal(data.y_test, arrays["y"][arrays["split"] == 2])

    noisy = load(file, label_noise=3.0)  # pixels: above 1 is no share
    assert same(data, noisy, "x_train", "x_test", "y_test") and not same(data, noisy, "y_train")
    assert len(load(file, training_size=4).x_train) == 4


def test_keypoint_file_without_split(tmp_path):
    arrays = keypoint_arrays(split=False)
    file = save(tmp_path / "faces.npz", arrays)
    data = load(file, seed=1)
    assert len(data.x_train) == 21 and len(data.x_test) == 9
    rows = np.concatenate([data.y_train, data.y_test])
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(arrays["y"], axis=0))
    assert same(data, load(file, seed=1)) and not same(data, load(file, seed=2), "y_test")


# Downloads


def real_structure():
    arrays = image_arrays(n=40, side=28, classes=10)
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def test_mnist(monkeypatch):
    monkeypatch.setattr("keras.datasets.mnist.load_data", real_structure)
    data = load("mnist", training_size=20, corruption="motion_blur")
    assert (data.name, data.outputs, data.x_train.shape) == ("mnist", 10, (20, 28, 28, 1))
    assert np.bincount(data.y_train).tolist() == [2] * 10


def test_mnist_without_a_network(monkeypatch):
    def fail():
        raise Exception("URL fetch failure on https://x: None --\n [Errno -3] no name")

    monkeypatch.setattr("keras.datasets.mnist.load_data", fail)
    with pytest.raises(FileNotFoundError, match=r"URL fetch failure.*`--data FILE\.npz`") as caught:
        load("mnist")
    assert "\n" not in str(caught.value)


def fake_tfds(monkeypatch, load):
    module = types.SimpleNamespace(load=load, as_numpy=lambda tree: tree)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def test_mnist_corrupted(monkeypatch):
    def tfds_load(name, split, batch_size):
        assert (name, split, batch_size) == ("mnist_corrupted/motion_blur", ["train", "test"], -1)
        return [{"image": x[..., None], "label": y.astype(np.int64)} for x, y in real_structure()]

    fake_tfds(monkeypatch, tfds_load)
    data = load("mnist_corrupted", training_size=30, label_noise=0.1)
    assert (data.name, data.outputs) == ("mnist_corrupted", 10)
    assert data.x_train.shape == (30, 28, 28, 1) and data.y_test.dtype == np.int32
    np.testing.assert_array_equal(data.y_test, real_structure()[1][1])


def test_mnist_corrupted_without_a_network(monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError

    fake_tfds(monkeypatch, fail)
    with pytest.raises(FileNotFoundError, match=r"ConnectionError.*`--data FILE\.npz`"):
        load("mnist_corrupted")


def test_mnist_corrupted_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"keras_mgs\[datasets\]"):
        load("mnist_corrupted")


# Bad input

IMAGES, KEYPOINTS = image_arrays(), keypoint_arrays()
FLOATS = {"x_train": IMAGES["x_train"] / 255, "x_test": IMAGES["x_test"] / 255}


def spoilt(array, value):
    array = array.astype(np.float64)
    array.flat[-1] = value
    return array


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"y_test": None},
            ["x_train, y_train, x_test, y_test", "with ['x_test', 'x_train', 'y_train']"],
        ),
        ({"x_train": IMAGES["x_train"][0]}, ["x_train and x_test", "one shape", "(6, 6)"]),
        ({"x_test": IMAGES["x_test"][:, :5]}, ["one shape", "(6, 6, 1)", "(5, 6, 1)"]),
        ({"x_train": IMAGES["x_train"].astype(int)}, ["x_train", "uint8", "int64"]),
        ({"x_train": IMAGES["x_train"].astype(str)}, ["x_train", "uint8", "<U"]),
        ({"x_train": IMAGES["x_train"][:0], "y_train": IMAGES["y_train"][:0]}, ["x_train", "one"]),
        ({"x_test": IMAGES["x_test"][:0], "y_test": IMAGES["y_test"][:0]}, ["x_test", "one"]),
        ({"y_train": IMAGES["y_train"][:-1]}, ["x_train and y_train", "40 and 39"]),
        ({"x_test": IMAGES["x_test"][:-1]}, ["x_test and y_test", "19 and 20"]),
        ({"y_train": np.eye(4, dtype=int)[IMAGES["y_train"]]}, ["y_train", "(40, 4)", "argmax"]),
        ({"y_train": IMAGES["y_train"] / 2}, ["y_train", "integer", "float64"]),
        ({"y_test": spoilt(IMAGES["y_test"], np.nan)}, ["y_test", "integer", "float64"]),
        ({"y_train": IMAGES["y_train"].astype(int) - 1}, ["y_train", "from 0", "-1 to 2"]),
        ({"y_train": IMAGES["y_train"] + np.uint64(2**63)}, ["y_train", "from 0"]),
        ({"y_train": IMAGES["y_train"] * 0 + 7, "y_test": IMAGES["y_test"] * 0 + 7}, ["2 classes"]),
        ({"y_test": IMAGES["y_test"] + 1}, ["y_test", "classes of y_train", "[4]"]),
        (
            {"y_train": IMAGES["y_train"].astype(int) * 1000, "y_test": IMAGES["y_test"] * 0},
            ["3001", "40"],
        ),
        ({"x_train": spoilt(FLOATS["x_train"], np.nan)}, ["x_train", "finite", "1 of"]),
        ({"x_test": spoilt(FLOATS["x_test"], np.inf)}, ["x_test", "finite"]),
        ({"x_test": spoilt(FLOATS["x_test"], 1e300)}, ["x_test", "finite", "float32"]),
        ({"x_train": IMAGES["x_train"].astype(object)}, ["pickled", "Object arrays"]),
    ],
)
def test_image_file_refused(tmp_path, changes, words):
    arrays = {k: v for k, v in (IMAGES | changes).items() if v is not None}
    refuse(ValueError, words, save(tmp_path / "bad.npz", arrays))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"y": None}, ["x, y and optionally split", "'split', 'x'"]),
        ({"x": KEYPOINTS["x"][..., None]}, ["x must", "(n, h, w).", "(30, 6, 6, 1)"]),
        ({"x": spoilt(KEYPOINTS["x"], np.nan)}, ["x must be finite"]),
        ({"x": KEYPOINTS["x"][1:]}, ["x and y", "29 and 30"]),
        ({"y": KEYPOINTS["y"][:, 0]}, ["y must", "(n, t)", "(30,)"]),
        ({"y": KEYPOINTS["y"][:, :0]}, ["y must", "(30, 0)"]),
        ({"y": KEYPOINTS["y"].astype(int)}, ["y must", "float", "int64"]),
        ({"y": spoilt(KEYPOINTS["y"], np.nan)}, ["y must be finite"]),
        ({"y": spoilt(KEYPOINTS["y"], -np.inf)}, ["y must be finite"]),
        ({"split": KEYPOINTS["split"][1:]}, ["split", "30 integers", "(29,)"]),
        ({"split": KEYPOINTS["split"] + 1}, ["split", "[1, 2, 3]"]),
        ({"split": KEYPOINTS["split"] / 1}, ["split", "float64"]),
        ({"split": KEYPOINTS["split"] * 0}, ["one training and one test", "30 and 0"]),
        ({"split": KEYPOINTS["split"] * 0 + 2}, ["one training and one test", "0 and 30"]),
        ({"split": None, "x": KEYPOINTS["x"][:1], "y": KEYPOINTS["y"][:1]}, ["0 and 0 of 1"]),
    ],
)
def test_keypoint_file_refused(tmp_path, changes, words):
    arrays = {k: v for k, v in (KEYPOINTS | changes).items() if v is not None}
    refuse(ValueError, words, save(tmp_path / "bad.npz", arrays))


def kaggle(path, rows):
    """A file in the layout of Kaggle's facial keypoints: two targets and an image per row."""
    path.write_text("\n".join(["nose_x,nose_y,Image", *rows]))
    return path


def test_kaggles_csv_is_read_without_rows_of_missing_values(tmp_path):
    rows = [f"{i}.5,{'' if i == 3 else 2},{i} 0 0 255" for i in range(11)]
    found = load(kaggle(tmp_path / "training.csv", rows))
    assert (found.name, found.task) == ("training", "regression")
    assert len(found.x_train) == 7 and len(found.x_test) == 3
    x = np.concatenate([found.x_train, found.x_test])
    y = np.concatenate([found.y_train, found.y_test])
    order = np.argsort(y[:, 0])
    kept = [0, 1, 2, *range(4, 11)]
    np.testing.assert_array_equal(y[order], [[i + 0.5, 2] for i in kept])
    np.testing.assert_allclose(
        x[order, :, :, 0] * 255, [[[i, 0], [0, 255]] for i in kept], atol=1e-5
    )


@pytest.mark.parametrize(
    "rows, words",
    [
        ([], ["no row without missing values"]),
        (["1,,0 0 0 0"], ["no row without missing values"]),
        (["1,2,0 0 0"], ["bytes of a square"]),
        (["1,2,0 0 0 256"], ["bytes of a square"]),
        (["1,2,0 0 0 0", "1,2,0 0 0"], ["bad.csv"]),
        (["1,2,0 0 0 x"], ["'x'"]),
        (["1,x,0 0 0 0"], ["'x'"]),
        (["1,2,3"], ["column Image"]),
    ],
)
def test_a_wrong_csv_is_refused(tmp_path, rows, words):
    refuse(ValueError, words, kaggle(tmp_path / "bad.csv", rows))


def test_a_file_that_is_no_csv_of_kaggles_is_refused(tmp_path):
    for name, content in {"empty": b"", "columns": b"a,b\n1,2", "bytes": b"\xff\xfe\x00"}.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(content)
        refuse(ValueError, ["column Image", name], path)


def refuse(kind, words, *args, **kwargs):
    """load raises exactly this kind, with the words, in the house's form, on one line."""
    with pytest.raises(kind) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert caught.type is kind
    assert all(word in message for word in [*words, "Received:"]), message
    assert "\n" not in message and message.endswith(".")


@pytest.mark.parametrize(
    "options, words",
    [
        *(({"label_noise": v}, ["label_noise"]) for v in (-0.1, 1.1, math.nan, "0.1", None, True)),
        *(({"training_size": v}, ["training_size"]) for v in (True, 0, -5, 3, 1001, 20.0, "20")),
        ({"training_size": 1001}, ["at least 10", "at most 1000", "1001"]),
        *(({"seed": v}, ["seed"]) for v in (-1, None, 0.5, True, "0")),
        ({"corruption": "fog"}, ["'motion_blur'", "'fog'"]),
        ({"corruption": "motion_blur"}, ["uint8", "'digits'", "float32"]),
    ],
)
def test_arguments_refused(options, words):
    refuse(ValueError, words, "digits", **options)


def test_corruption_refused(tmp_path):
    floats = save(tmp_path / "floats.npz", IMAGES | FLOATS)
    refuse(ValueError, ["uint8", "float32"], floats, corruption="motion_blur")
    refuse(ValueError, ["already blurred"], "mnist_corrupted", corruption="motion_blur")


def test_names_refused(tmp_path):
    for missing in (tmp_path / "no.npz", "no.npz", "no/digits"):
        refuse(FileNotFoundError, ["'digits', 'mnist', 'mnist_corrupted'", "no"], missing)
    for name in ("cifar", "MNIST", ""):
        refuse(ValueError, ["'digits', 'mnist', 'mnist_corrupted'", repr(name)], name)
    for other in (None, 3, b"digits"):
        refuse(ValueError, ["name", repr(other)], other)


def test_unreadable_files_refused(tmp_path):
    whole = Path(save(tmp_path / "whole.npz", IMAGES)).read_bytes()
    np.save(tmp_path / "one.npy", IMAGES["x_train"])
    middle = len(whole) // 4
    contents = {
        "empty.npz": b"",
        "text.npz": b"label,pixel\n3,0\n",
        "array.npz": (tmp_path / "one.npy").read_bytes(),
        "truncated.npz": whole[: len(whole) // 2],
        "damaged.npz": whole[:middle] + bytes(64) + whole[middle + 64 :],
        "headless.npz": whole.replace(b"\x93NUMPY", b"\x93OTHER"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        refuse(ValueError, [".npz file", name], tmp_path / name)
    refuse(ValueError, [".npz file"], tmp_path)


def claims(path, descr, shape, data=b"", size=0):
    """An .npz whose x says that it is such an array."""
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


@pytest.mark.parametrize(
    "descr, shape",
    [
        ("<f4", (10**13, 8, 8)),
        ("<f4", (10**7, 8, 8)),  # there is memory for it, but nothing in the file
        ("<f4", (10**400, 8)),
        ("<f4", (-1, 8, 8)),
        ("<f4", ("a", 8)),
        ("<U0", (10**13, 8, 8)),
        ("|V4", (1, 4, 4)),
        ([("a", "<f4")], (1, 4, 4)),
        ("nothing", (1, 4, 4)),
        ("|O", (1, 4, 4)),
    ],
)
def test_an_array_that_claims_what_it_is_not_is_one_sentence(descr, shape, tmp_path):
    claims(tmp_path / "file.npz", descr, shape, bytes(64))
    with pytest.raises(ValueError, match="whole .npz file of plain arrays.*Received: .*file.npz"):
        read_npz(tmp_path / "file.npz", [(("x",), ())])


def test_an_archive_that_unpacks_to_more_than_memory_is_refused_at_once(tmp_path, monkeypatch):
    size = 2**30
    claims(tmp_path / "file.npz", "|u1", (size,), size=size)
    assert (tmp_path / "file.npz").stat().st_size < 2**21
    monkeypatch.setattr(storage, "free_memory", lambda: 3 * size)  # the header is beyond
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to 1 GiB, and 3 GiB of memory are free"):
        read_npz(tmp_path / "file.npz", [(("x",), ())])
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["file.npz", "file.csv"])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p)],
)
def test_what_is_no_regular_file_is_refused_at_once(name, make, tmp_path):
    make(tmp_path / name)
    refuse(ValueError, [".npz", name], tmp_path / name)


def test_a_csv_of_huge_numbers_is_one_sentence(tmp_path):
    (tmp_path / "file.csv").write_text(f"a,Image\n{10**400},0 1 2 3\n")
    refuse(ValueError, [".csv", "too large"], tmp_path / "file.csv")


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 3000), junk=st.binary(max_size=40))
def test_any_damage_is_one_sentence(tmp_path_factory, cut, junk):
    file = tmp_path_factory.mktemp("damage") / "file.npz"
    whole = Path(save(file, image_arrays(n=8, side=3, classes=2))).read_bytes()
    file.write_bytes(whole[:cut] + junk + whole[cut + len(junk) :])
    try:
        load(file)
    except ValueError as error:
        assert "Received:" in str(error)


def test_bad_arguments_are_found_before_any_download(monkeypatch):
    def fail(*args):
        raise AssertionError

    monkeypatch.setattr(datasets, "_read", fail)
    refuse(ValueError, ["corruption"], "mnist", corruption="fog")
    refuse(ValueError, ["seed"], "mnist", seed=-1)
    refuse(ValueError, ["label_noise"], "mnist", label_noise=math.nan)
    refuse(ValueError, ["training_size"], "mnist", training_size=0)
