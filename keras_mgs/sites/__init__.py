"""Where weights act: sites, the rules that find them, and J in blocks made of them."""

from keras_mgs.sites.blocks import jacobian_blocks
from keras_mgs.sites.recording import couples_samples, record, signature
from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import Site

__all__ = ["Site", "couples_samples", "jacobian_blocks", "record", "rule", "signature"]
