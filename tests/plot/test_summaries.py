"""What stands in the place of a spectrum that K has not; images: `tests/test_callbacks.py`."""

import numpy as np
import pytest

from keras_mgs.plot import summaries


@pytest.mark.parametrize(
    "values, words",
    [
        ([np.nan, np.nan], "K is not finite"),
        ([0.0, 0.0], "no eigenvalue of K is above zero"),
        ([-1e-20, 0.0], "no eigenvalue of K is above zero"),
    ],
)
def test_words_say_why_there_is_no_spectrum(values, words, axis):
    summaries._spectrum(np.array(values), axis)
    assert [text.get_text() for text in axis.texts] == [words]
    assert not axis.lines


def test_a_spectrum_is_drawn_where_there_is_one(axis):
    summaries._spectrum(np.array([0.0, 1.0, 3.0]), axis)
    assert not axis.texts
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [3, 1, np.nan])
