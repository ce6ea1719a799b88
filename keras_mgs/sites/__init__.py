"""Where weights act: sites, the rules that find them, and J in blocks made of them."""

# A family registers its rules when it is imported.
from keras_mgs.sites import convolution, dense, embedding, normalization, recurrent  # noqa: F401
from keras_mgs.sites.blocks import jacobian_blocks
from keras_mgs.sites.call import Call
from keras_mgs.sites.fallback import ByCopies, by_passes
from keras_mgs.sites.registry import find, rule
from keras_mgs.sites.site import OneHot, Site, elementwise, matrix
from keras_mgs.sites.surveying import record, signature, survey

__all__ = [
    "ByCopies",
    "Call",
    "OneHot",
    "Site",
    "by_passes",
    "elementwise",
    "find",
    "jacobian_blocks",
    "matrix",
    "record",
    "rule",
    "signature",
    "survey",
]
