"""The optimizer: AdamW with a moving average of the weights that warms up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pneumoscope.networks.backend import keras, ops


class AdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """Keras's AdamW, whose moving average of the weights warms up.

    With a fixed momentum of 0.99, over a third of the average is still the untrained network after a hundred steps, and
    few images allow no more. Here the momentum after `n` steps is `(1 + n) / (10 + n)`, at most `ema_momentum`
    (TensorFlow 1's `ExponentialMovingAverage(num_updates=n)`).

    Example:
        >>> AdamW(use_ema=True, ema_momentum=0.99).use_ema
        True
    """

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        if not self.use_ema:
            return
        steps = ops.cast(self.iterations, "float32")
        warming = ops.minimum(self.ema_momentum, (1.0 + steps) / (10.0 + steps))
        momentum = ops.where(ops.equal(steps, 0.0), 0.0, warming)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                average.assign(momentum * average + (1.0 - momentum) * variable)
