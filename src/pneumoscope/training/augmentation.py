"""The changes that training images go through, so that the network learns lungs and not scanners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import keras
from keras import ops

from pneumoscope.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How strongly each change is applied; 0 switches it off. Each image draws its own strength.

    Attributes:
        share: share of images that changes of place (up to the flip) are applied to, and likewise, drawn apart, changes
            of brightness (from contrast on). Below 1 the network also learns images as they come: trained on changed
            images alone, it calls unchanged ones all too often the same.
        rotation: largest angle, in degrees.
        width_shift: largest shift, as a share of the width.
        height_shift: largest shift, as a share of the height.
        zoom: largest change of scale, as a share; width and height change separately.
        shear: largest shear, as a share of the side.
        horizontal_flip: 1 flips half of the images that are changed in place; 0 none, because the heart is on the left.
        contrast: largest change of contrast about the image's mean, as a share.
        brightness: largest change of brightness, in [0, 1] of the full range.
        gamma: largest exponent less one: 0.5 draws from 1/1.5 to 1.5.
        shading: largest brightness of a slow gradient across the image, as an uneven plate or grid makes it.
        blur: share of images that are blurred, in [0, 1].
        noise: largest standard deviation of added noise, in [0, 1] of the full range.
    """

    share: float = 0.6
    rotation: float = 8.0
    width_shift: float = 0.06
    height_shift: float = 0.06
    zoom: float = 0.1
    shear: float = 0.05
    horizontal_flip: float = 0.0
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 0.4
    shading: float = 0.15
    blur: float = 0.2
    noise: float = 0.03

    def __post_init__(self) -> None:
        """Refuse strengths that cannot be."""
        for field in fields(self):
            strength = getattr(self, field.name)
            most = 180.0 if field.name == "rotation" else 2.0 if field.name == "gamma" else 1.0
            if not isinstance(strength, (int, float)) or not 0.0 <= strength <= most:
                raise TrainingError(f"Expected augmentation.{field.name} in [0, {most:g}], got {strength!r}.")
        if self.horizontal_flip not in (0, 1):
            raise TrainingError(f"Expected augmentation.horizontal_flip 0 or 1, got {self.horizontal_flip!r}.")


NONE = Augmentation(**{field.name: 0.0 for field in fields(Augmentation) if field.name != "share"})

PLACE = ("rotation", "width_shift", "height_shift", "zoom", "shear", "horizontal_flip")


def augmented(network: keras.Model, augmentation: Augmentation) -> keras.Model:
    """Put an augmentation before a network; both then share the network's weights.

    Train with the result and keep the network: a saved network without augmentation holds none but Keras's own layers
    and loads anywhere.

    Args:
        network: takes images (N, S, S, 1) in [0, 1].
        augmentation: the strengths.

    Returns:
        The network itself where all strengths are 0.

    Example:
        >>> model = augmented(network, Augmentation(rotation=10.0))  # doctest: +SKIP
    """
    changes = layers(augmentation)
    if not changes:
        return network
    images = keras.Input(network.input_shape[1:])
    changed = images
    for of_place in (True, False):
        group = [layer for layer in changes if (layer.name in PLACE) == of_place]
        if group:
            changed = Sometimes(augmentation.share, keras.Sequential(group))(changed)
    return keras.Model(images, network(changed))


def layers(augmentation: Augmentation) -> list[keras.Layer]:
    """Build the layers of an augmentation; a change of strength 0 has none.

    They take and give (N, S, S, 1) in [0, 1]. What moves in from beyond the edge is black, as beyond the edge of a
    plate.

    Example:
        >>> [layer.name for layer in layers(Augmentation(**{**vars(NONE), "gamma": 0.5}))]
        ['gamma']
    """
    a = augmentation
    unit: dict[str, Any] = {"value_range": (0, 1)}
    empty: dict[str, Any] = {"fill_mode": "constant", "fill_value": 0.0}
    made: dict[str, Callable[[], keras.Layer]] = {
        "rotation": lambda: keras.layers.RandomRotation(a.rotation / 360, **empty, name="rotation"),
        "width_shift": lambda: keras.layers.RandomTranslation(0.0, a.width_shift, **empty, name="width_shift"),
        "height_shift": lambda: keras.layers.RandomTranslation(a.height_shift, 0.0, **empty, name="height_shift"),
        "zoom": lambda: keras.layers.RandomZoom(a.zoom, a.zoom, **empty, name="zoom"),
        "shear": lambda: keras.layers.RandomShear(a.shear, a.shear, **empty, name="shear"),
        "horizontal_flip": lambda: keras.layers.RandomFlip("horizontal", name="horizontal_flip"),
        "contrast": lambda: keras.layers.RandomContrast(a.contrast, **unit, name="contrast"),
        "brightness": lambda: keras.layers.RandomBrightness(a.brightness, **unit, name="brightness"),
        "gamma": lambda: RandomGamma(a.gamma, name="gamma"),
        "shading": lambda: RandomShading(a.shading, name="shading"),
        "blur": lambda: keras.layers.RandomGaussianBlur((a.blur, a.blur), 5, (0.5, 1.5), **unit, name="blur"),
        "noise": lambda: RandomNoise(a.noise, name="noise"),
    }
    return [made[name]() for name in made if getattr(a, name) > 0.0]


class Sometimes(keras.layers.Layer):  # type: ignore[misc]
    """A change that a share of the images goes through.

    Args:
        share: of the images, in [0, 1].
        change: the change.
    """

    def __init__(self, share: float, change: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share, self.change = share, change
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool = True) -> Any:
        """Change some of the images (N, S, S, 1) while training; leave them alone otherwise."""
        if not training:
            return images
        drawn = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.seed_generator)
        return ops.where(drawn < self.share, self.change(images, training=True), images)


class RandomChange(keras.layers.Layer):  # type: ignore[misc]
    """A change of pixel values of which each image draws its own strength.

    Args:
        strength: the largest strength.
    """

    def __init__(self, strength: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = strength
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool = True) -> Any:
        """Change images (N, S, S, 1) in [0, 1] while training; leave them alone otherwise."""
        return ops.clip(self.change(images), 0.0, 1.0) if training else images

    def change(self, images: Any) -> Any:
        """Change images (N, S, S, 1); what leaves [0, 1] is cut off."""
        raise NotImplementedError

    def draw(self, images: Any, *shape: int, low: float = -1.0) -> Any:
        """Draw numbers (N, *shape) evenly from [low, 1]."""
        return keras.random.uniform((ops.shape(images)[0], *shape), low, 1.0, images.dtype, seed=self.seed_generator)


class RandomGamma(RandomChange):
    """Raise brightness to a power between `1 / (1 + strength)` and `1 + strength`, even on the logarithm."""

    def change(self, images: Any) -> Any:
        """Change images (N, S, S, 1) in [0, 1]."""
        exponent = ops.exp(self.draw(images, 1, 1, 1) * ops.log(1.0 + self.strength))
        return ops.power(ops.maximum(images, 1e-6), exponent)


class RandomShading(RandomChange):
    """Add a plane that rises by up to `strength` from the middle to the edge, in any direction, and bends."""

    def change(self, images: Any) -> Any:
        """Change images (N, S, S, 1) in [0, 1]."""
        rows, columns = images.shape[1], images.shape[2]
        y = ops.reshape(ops.linspace(-1.0, 1.0, rows, dtype=images.dtype), (1, rows, 1, 1))
        x = ops.reshape(ops.linspace(-1.0, 1.0, columns, dtype=images.dtype), (1, 1, columns, 1))
        slope = self.strength * self.draw(images, 1, 1, 5) / 2  # (N, 1, 1, 5)
        field = slope[..., 0:1] * x + slope[..., 1:2] * y + slope[..., 2:3] * x * y
        return images + field + slope[..., 3:4] * (x**2 - 0.5) + slope[..., 4:5] * (y**2 - 0.5)


class RandomNoise(RandomChange):
    """Add normal noise whose standard deviation is drawn from 0 to `strength` (Keras's own has a fixed one)."""

    def change(self, images: Any) -> Any:
        """Change images (N, S, S, 1) in [0, 1]."""
        deviation = self.strength * self.draw(images, 1, 1, 1, low=0.0)
        noise = keras.random.normal(ops.shape(images), dtype=images.dtype, seed=self.seed_generator)
        return images + deviation * noise
