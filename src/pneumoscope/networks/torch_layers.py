"""Keras layers that run PyTorch's own kernels: the same outputs and weights in half the training time."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from pneumoscope.networks import backend
from pneumoscope.networks.backend import keras

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt` (malloc.h)."""


def quick(network: keras.Model) -> keras.Model:
    """Return a copy of a network with the faster layers and the same weights, if Keras runs on PyTorch.

    Keras on PyTorch changes the memory layout of every feature map before and after each convolution, and normalises
    with elementary operations, each of which is a pass over memory. Here maps stay channels-last, and a single kernel
    normalises.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> quick(keras.Model(inputs, keras.layers.BatchNormalization()(inputs))).output_shape
        (None, 8, 8, 3)
    """
    if backend.name() != "torch":
        return network
    keep_memory()

    def copy(layer: Any) -> Any:
        return QUICK.get(type(layer), type(layer)).from_config(layer.get_config())

    copied = keras.models.clone_model(network, clone_function=copy)
    copied.set_weights(network.get_weights())
    return copied


def on_processor() -> bool:
    """Return whether Keras runs on PyTorch, and PyTorch on the processor.

    Example:
        >>> on_processor() in (True, False)
        True
    """
    return backend.name() == "torch" and bool(keras.ops.zeros(()).device.type == "cpu")


def keep_memory() -> None:
    """Make the process keep the memory that it frees, if the C library is glibc.

    Every training step allocates the same large feature maps. By default glibc returns them to the kernel, which has to
    clear the pages again in the next step: a fifth of the time of a step on a CPU.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's layer, computed by one kernel instead of five operations."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise maps (N, H, W, C) by the batch statistics in training, otherwise by the moving statistics."""
        import torch

        own = bool(training and self.trainable)
        mean, variance = self.moving_mean.value, self.moving_variance.value
        maps = inputs.permute(0, 3, 1, 2)
        normal = torch.nn.functional.batch_norm(
            maps, mean, variance, self.gamma.value, self.beta.value, own, 1.0 - self.momentum, self.epsilon
        )
        return normal.permute(0, 2, 3, 1)


class Conv2D(keras.layers.Conv2D):  # type: ignore[misc]
    """Keras's layer, without changing the memory layout of its input."""

    def call(self, inputs: Any) -> Any:
        """Convolve maps (N, H, W, C)."""
        if not _plain(self):
            return super().call(inputs)
        return _convolved(self, inputs, self.kernel.value.permute(3, 2, 0, 1))


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """Keras's layer, without changing the memory layout of its input."""

    def call(self, inputs: Any) -> Any:
        """Convolve each channel of maps (N, H, W, C) separately."""
        if not _plain(self) or self.depth_multiplier != 1:
            return super().call(inputs)
        return _convolved(self, inputs, self.kernel.value.permute(2, 3, 0, 1))


QUICK: dict[type[Any], type[Any]] = {
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.Conv2D: Conv2D,
    keras.layers.DepthwiseConv2D: DepthwiseConv2D,
}
"""The replacement for each layer."""


def _plain(layer: Any) -> bool:
    """Return whether PyTorch pads a layer like Keras, and the layer uses no other options."""
    even = layer.padding == "valid" or (max(layer.strides) == 1 and all(side % 2 for side in layer.kernel_size))
    return even and layer.data_format == "channels_last" and max(layer.dilation_rate) == 1


def _convolved(layer: Any, inputs: Any, kernel: Any) -> Any:
    """Convolve maps (N, H, W, C) with a kernel in PyTorch's layout."""
    import torch

    padding = [side // 2 if layer.padding == "same" else 0 for side in layer.kernel_size]
    bias = layer.bias.value if layer.use_bias else None
    maps = inputs.permute(0, 3, 1, 2)
    groups = maps.shape[1] // kernel.shape[1]
    strided = groups > 1 and kernel.shape[1] == 1 and max(layer.strides) > 1  # then `_plain` lets no padding pass
    if strided and maps.dtype == torch.bfloat16 and maps.device.type == "cpu":
        from pneumoscope.networks import strided_depthwise

        maps = strided_depthwise.convolved(maps, kernel, layer.strides)
        maps = maps if bias is None else maps + bias[:, None, None]
    else:
        maps = torch.nn.functional.conv2d(maps, kernel, bias, stride=layer.strides, padding=padding, groups=groups)
    return layer.activation(maps.permute(0, 2, 3, 1))
