"""Keras with fixed settings that override a user's `keras.json`; import it from here.

The backend is PyTorch if it is installed, because it trains fastest on CPUs, otherwise TensorFlow. The environment
variable `KERAS_BACKEND` overrides this choice.
"""

from __future__ import annotations

import importlib.util
import logging
import os

os.environ.setdefault("KERAS_BACKEND", "torch" if importlib.util.find_spec("torch") else "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no greeting on standard error
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # no warning about retracing for each new network

import keras
from keras import ops

keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")
keras.config.set_epsilon(1e-7)

__all__ = ["keras", "name", "ops"]


def name() -> str:
    """Return the backend of Keras: `torch`, `tensorflow` or `jax`.

    Example:
        >>> name() in ("torch", "tensorflow", "jax")
        True
    """
    return str(keras.backend.backend())
