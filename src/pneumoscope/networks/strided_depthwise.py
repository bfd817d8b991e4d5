"""Depthwise convolutions with a stride, in bfloat16 on a processor; needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def convolved(maps: torch.Tensor, kernel: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """Convolve each channel of maps in bfloat16 separately, without padding.

    PyTorch computes the gradient of such a convolution with respect to its input forty times as slowly as in float32,
    so that it alone would take longer than the rest of a step. Here that gradient is computed in float32.

    Args:
        maps: (N, C, H, W), channels-last in memory.
        kernel: (C, 1, h, w).
        strides: down and across.

    Returns:
        (N, C, H', W').

    Example:
        >>> maps = torch.ones(1, 1, 3, 3, dtype=torch.bfloat16)
        >>> convolved(maps, maps, (2, 2)).item()
        9.0
    """
    result: torch.Tensor = _Convolution.apply(maps, kernel, list(strides))
    return result


class _Convolution(torch.autograd.Function):  # type: ignore[misc] # PyTorch is optional
    @staticmethod
    def forward(context: Any, maps: torch.Tensor, kernel: torch.Tensor, strides: list[int]) -> torch.Tensor:
        context.save_for_backward(maps, kernel)
        context.strides = strides
        return torch.nn.functional.conv2d(maps, kernel, stride=strides, groups=maps.shape[1])

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        maps, kernel = context.saved_tensors
        options = (None, context.strides, [0, 0], [1, 1], False, [0, 0], maps.shape[1])
        back = torch.ops.aten.convolution_backward
        _, of_kernel, _ = back(gradient, maps, kernel, *options, [False, True, False])
        of_maps, exact = torch.empty_like(maps), kernel.float()
        like = torch.empty_like(maps[:1], dtype=torch.float32)  # only its shape is used
        # One image at a time, so that the copies in float32 stay in the cache.
        for i in range(len(maps)):
            of_maps[i : i + 1], _, _ = back(gradient[i : i + 1].float(), like, exact, *options, [True, False, False])
        return of_maps, of_kernel, None
