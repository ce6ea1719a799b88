"""What a key of History measures: its line, its label with the unit, the order of the panels."""

_LABELS = {  # of what MGSMetrics and MGSModel record
    "mgs_trace": "tr K (sum of squared gradients)",
    "mgs_log_det": "log det K (natural log)",
    "mgs_singular": "eigenvalues of K ≤ ε (count)",
    "mgs_penalty": "penalty (unit of the loss)",
    "mgs_alpha": "α (penalty/metric)",
}
_SHARES = ("acc", "auc", "precision", "recall", "f1", "iou")
_SETTINGS = ("epoch", "run", "seconds", "learning_rate", "lr")
_WITHOUT_PANEL = (*_SETTINGS, "mgs_singular", "mgs_penalty", "mgs_alpha")


def split(key):
    """The quantity that a key measures, and the name of its line.

    "val_loss" is the line "validation" of "loss"; "mgs_trace_noisy" is the line "noisy" (a probe
    batch) of "mgs_trace".
    """
    for quantity in _LABELS:
        if key == quantity:
            return quantity, "probe batch"
        if key.startswith(f"{quantity}_"):
            return quantity, key[len(quantity) + 1 :]
    if key.startswith("val_"):
        return key[4:], "validation"
    return key, "training"


def has_panel(quantity):
    """Whether it is a score, a loss, tr K or log det K, which `history` draws."""
    return quantity not in _WITHOUT_PANEL


def rank(quantity):
    """Where its panel stands: scores come first, then loss, tr K and log det K."""
    if quantity in _LABELS:
        return 2 + list(_LABELS).index(quantity)
    return int("loss" in quantity)


def label(quantity):
    """Its name with its unit."""
    if quantity in _LABELS:
        return _LABELS[quantity]
    name = quantity.replace("_", " ")
    if quantity in _SETTINGS:
        return name if quantity == "seconds" else f"{name} (number)"
    is_share = any(word in quantity.lower() for word in _SHARES)
    return f"{name} ({'share' if is_share else 'per sample'})"


def label_of_key(key):
    """As `label`, with "training" or "validation" before it where a quantity is of either."""
    quantity, line = split(key)
    is_of_either = quantity not in (*_LABELS, *_SETTINGS)
    return f"{line} {label(quantity)}" if is_of_either else label(quantity)


def is_logarithmic(quantity):
    """Whether its axis is: tr K grows by orders of magnitude."""
    return quantity == "mgs_trace"
