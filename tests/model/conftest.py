"""Every test in this folder computes in double precision."""

import pytest


@pytest.fixture(autouse=True)
def double_precision(float64):
    pass
