"""Settings, each declared once."""

import dataclasses

import pytest

from keras_mgs.experiments.catalogue.experiment import Settings, declared, setting, with_default
from keras_mgs.experiments.catalogue.names import METHODS as METHOD_NAMES
from keras_mgs.experiments.catalogue.names import NETWORKS as NETWORK_NAMES
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.catalogue.settings import STRENGTHS, ZOO_METHODS
from keras_mgs.experiments.training.methods import METHODS
from keras_mgs.experiments.training.networks import NETWORKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Some(Settings):
    sizes: tuple[int, ...] = setting("sizes", least=2, key="size")
    share: float | None = setting("a share", None, positive=True)
    word: str = setting("a word", "a", choices=("a", "b"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(Some):
    word: str = with_default(Some, "word", "b")


@pytest.mark.parametrize(
    "given, words",
    [
        ({"sizes": [2, 1]}, "`sizes` to be at least 2. Received: sizes=1"),
        ({"sizes": [2.5]}, "`sizes` to be an integer. Received: sizes=2.5"),
        ({"sizes": [2], "share": 0}, "`share` to be positive. Received: share=0"),
        ({"sizes": [2], "word": "c"}, "`word` to be one of 'a', 'b'. Received: word='c'"),
        ({"sizes": [2], "more": 1}, "unexpected keyword argument 'more'"),
        ({}, "sizes"),
    ],
)
def test_a_wrong_setting_is_one_sentence(given, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Some(**given)


def test_settings_are_what_was_given_and_their_defaults():
    assert Some(sizes=[2, 3]) == Some(sizes=(2, 3), share=None, word="a")
    assert Other(sizes=[2]).word == "b"
    with pytest.raises(ValueError, match="'a', 'b'"):
        Other(sizes=[2], word="c")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_are_of_settings_and_give_all_that_have_no_default_but_data(name):
    experiment = EXPERIMENTS[name]
    own = declared(experiment.settings)
    needed = {name for name, (f, *_) in own.items() if f.default is dataclasses.MISSING}
    for preset in experiment.presets.values():
        assert set(preset) <= set(own)
        assert needed - set(preset) <= {"data"}
        experiment.settings(**{"data": "d"} if "data" in needed else {}, **preset)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_a_module_with_all_that_it_needs(name):
    module = EXPERIMENTS[name].module
    for need in ("plan", "train", "table", "words", "files", "check"):
        assert callable(getattr(module, need))
    assert isinstance(module.TITLE, str) and EXPERIMENTS[name].summary.endswith((".", "?"))


def test_the_names_that_settings_know_are_those_that_there_are():
    assert tuple(NETWORKS) == NETWORK_NAMES and tuple(METHODS) == METHOD_NAMES
    assert set(STRENGTHS) < set(METHODS) and set(ZOO_METHODS) - {"fixed"} < set(METHODS)
