"""An error at import where Keras is too old, or computes with another backend."""

import keras

if int(keras.__version__.split(".")[0]) < 3:
    raise ImportError(
        f"keras_mgs needs Keras 3. Received: Keras {keras.__version__}. "
        "Install keras>=3.10, and unset TF_USE_LEGACY_KERAS."
    )
if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "keras_mgs needs Keras to compute with TensorFlow. "
        f"Received: the backend '{keras.backend.backend()}'. "
        "Set the environment variable KERAS_BACKEND=tensorflow before keras is imported."
    )
