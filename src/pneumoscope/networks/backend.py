"""Keras, set up the same whatever a user's own `keras.json` says: import it from here.

PyTorch trains where it is installed, because on processors it is the quickest; TensorFlow does elsewhere. The
environment's `KERAS_BACKEND` overrules the choice.
"""

from __future__ import annotations

import importlib.util
import logging
import os

os.environ.setdefault("KERAS_BACKEND", "torch" if importlib.util.find_spec("torch") else "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets on standard error
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # and warns of each network that is predicted with anew

import keras
from keras import ops

keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")
keras.config.set_epsilon(1e-7)

__all__ = ["keras", "name", "ops"]


def name() -> str:
    """Name what Keras runs on: `torch`, `tensorflow` or `jax`.

    Example:
        >>> name() in ("torch", "tensorflow", "jax")
        True
    """
    return str(keras.backend.backend())
