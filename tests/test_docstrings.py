"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf

import keras_mgs

matplotlib.use("agg")  # pictures of examples are not to be seen
OTHERS = (".experiments", ".benchmark", ".cli", "__main__")  # no interface; the peer's needs JAX
MODULES = pkgutil.walk_packages(keras_mgs.__path__, "keras_mgs.")
NAMES = ["keras_mgs", *(m.name for m in MODULES if not any(part in m.name for part in OTHERS))]


def examples(module):
    names = {"keras": keras, "np": np, "tf": tf, "keras_mgs": keras_mgs}
    tests = doctest.DocTestFinder().find(module, module.__name__, globs=names)
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("name", NAMES)
def test_examples_print_what_they_say(name):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in examples(importlib.import_module(name)):
        result = runner.run(test)
        assert result.failed == 0, test.name


@pytest.mark.parametrize("name", keras_mgs.__all__)
def test_every_public_name_has_an_example(name):
    assert ">>> " in getattr(keras_mgs, name).__doc__
