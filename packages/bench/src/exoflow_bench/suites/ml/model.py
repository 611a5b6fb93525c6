"""The model: a small network of dense layers, trained by stochastic gradient descent with momentum, in NumPy.

A model is a value. Learning returns another one and leaves the first as it is, so an epoch that is run again after a
crash starts from what the first attempt started from. The same model and images give the same bits, on one machine
and with one thread in the linear algebra library.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from exoflow_bench.suites.ml.data import CLASSES, SIDE, Images, as_shades

__all__ = ["Layer", "Model", "confusion", "create", "digest", "learn", "predict"]

Array = NDArray[np.float32]


@attrs.frozen(eq=False)
class Layer:
    """Weights and biases, with the momentum of each: all that the next step of the descent needs."""

    weights: Array
    biases: Array
    weights_momentum: Array
    biases_momentum: Array


@attrs.frozen(eq=False)
class Model:
    """A network, and how far its training is."""

    layers: tuple[Layer, ...]
    epochs: int = 0
    """So many passes over the images are in it."""


def create(seed: int, hidden: Sequence[int] = (256, 128)) -> Model:
    """Return an untrained model.

    Source:
        K. He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.2: the spread of the first weights.
    """
    random = np.random.default_rng(seed)
    sizes = (SIDE * SIDE, *hidden, CLASSES)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        weights = random.normal(0.0, np.sqrt(2 / inputs), (inputs, outputs)).astype(np.float32)
        biases = np.zeros(outputs, np.float32)
        layers.append(Layer(weights, biases, np.zeros_like(weights), np.zeros_like(biases)))
    return Model(tuple(layers))


def learn(model: Model, images: Images, rate: float, *, batch: int = 64, momentum: float = 0.9) -> Model:
    """Return the model after one more pass over *images*, in their order.

    Args:
        model: Where to go on from.
        images: What to learn, already shuffled.
        rate: Length of a step.
        batch: Images for each step.
        momentum: The share of each step that goes into the next.
    """
    layers = [attrs.evolve(layer) for layer in model.layers]
    inputs = _flat(images)
    step, keep = np.float32(rate), np.float32(momentum)
    for begin in range(0, len(images), batch):
        activations = _forward(layers, inputs[begin : begin + batch])
        labels = images.labels[begin : begin + batch]
        # Cross entropy behind softmax: its gradient is the difference to what should have come out.
        error = _softmax(activations[-1])
        error[np.arange(len(labels)), labels] -= 1
        error /= np.float32(len(labels))
        for at in range(len(layers) - 1, -1, -1):
            layer, before = layers[at], activations[at]
            weights_momentum = keep * layer.weights_momentum - step * (before.T @ error)
            biases_momentum = keep * layer.biases_momentum - step * error.sum(axis=0)
            if at:
                error = (error @ layer.weights.T) * (before > 0)
            layers[at] = Layer(
                layer.weights + weights_momentum, layer.biases + biases_momentum, weights_momentum, biases_momentum
            )
    return Model(tuple(layers), model.epochs + 1)


def predict(model: Model, images: Images) -> NDArray[np.int64]:
    """Return which digit the model sees in each image."""
    seen: NDArray[np.int64] = _forward(model.layers, _flat(images))[-1].argmax(axis=1)
    return seen


def confusion(seen: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each digit (row) was seen as each digit (column)."""
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (labels, seen), 1)
    return counts


def digest(model: Model) -> str:
    """Return a text that differs if any bit of the model does, momentum included."""
    hasher = hashlib.sha256(str(model.epochs).encode())
    for layer in model.layers:
        for array in (layer.weights, layer.biases, layer.weights_momentum, layer.biases_momentum):
            hasher.update(f"{array.dtype.str}{array.shape}".encode())
            hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def _flat(images: Images) -> Array:
    return as_shades(images.pixels).reshape(-1, SIDE * SIDE)


def _forward(layers: Sequence[Layer], inputs: Array) -> list[Array]:
    """Return the inputs and what each layer made of them."""
    activations: list[Any] = [inputs]
    for layer in layers:
        values = activations[-1] @ layer.weights + layer.biases
        activations.append(np.maximum(values, 0) if layer is not layers[-1] else values)
    return activations


def _softmax(values: Array) -> Array:
    powers: Array = np.exp(values - values.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
