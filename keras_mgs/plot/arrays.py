"""The arrays that pictures are drawn from: converted, or refused in a sentence."""

import numpy as np


def as_array(name, values):
    """`values` as an array of any dtype."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"Expected `{name}` to be an array, or lists of one length. Received: lists of several."
        ) from error


def real_numbers(name, values):
    """`values` as float64, with NaN for None."""
    array = as_array(name, values)
    if array.dtype.kind in "SUMmc":
        raise TypeError(f"Expected `{name}` to be real numbers. Received: dtype {array.dtype}.")
    try:
        return array.astype("float64")
    except OverflowError as error:
        raise ValueError(
            f"Expected `{name}` to be numbers that float64 holds. Received: larger ones."
        ) from error
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected `{name}` to be real numbers. Received: others.") from error


def square_matrix(name, values):
    """`values` as a square matrix of real numbers."""
    matrix = real_numbers(name, values)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(
            f"Expected `{name}` to be a square matrix, (n*q, n*q). Received: shape {matrix.shape}."
        )
    return matrix


def class_labels(name, values):
    """`values` as an array; a single column, (n, 1), becomes (n,)."""
    labels = as_array(name, values)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
