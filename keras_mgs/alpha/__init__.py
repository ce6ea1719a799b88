"""α, the weight of a penalty: a number, a schedule, or "auto", which balances two gradients."""

from keras_mgs.alpha.given import AUTO, at, parse, serialize
from keras_mgs.alpha.kinds import (
    Alpha,
    Automatic,
    Gradients,
    Number,
    Scheduled,
    of,
    warn_unlabelled,
)
from keras_mgs.alpha.rule import (
    HEADROOM,
    SHARE,
    State,
    choose,
    learnt,
    share,
    shorten,
    update,
)

__all__ = [
    "AUTO",
    "HEADROOM",
    "SHARE",
    "Alpha",
    "Automatic",
    "Gradients",
    "Number",
    "Scheduled",
    "State",
    "at",
    "choose",
    "learnt",
    "of",
    "parse",
    "serialize",
    "share",
    "shorten",
    "update",
    "warn_unlabelled",
]
