import pickle

import attrs
import numpy as np
import pytest

from exoflow_bench.suites.ml import data, model


@pytest.fixture(scope="module")
def images():
    return data.decode(data.read_archive(), 0, 8)


def test_a_seed_gives_the_same_model():
    assert model.digest(model.create(1)) == model.digest(model.create(1))
    assert model.digest(model.create(1)) != model.digest(model.create(2))


def test_learning_gives_the_same_bits_and_leaves_the_model_before_as_it_was(images):
    before = model.create(0)
    known = model.digest(before)
    one, same = (model.learn(before, images, 0.05) for _ in range(2))
    assert model.digest(one) == model.digest(same) != known
    assert model.digest(before) == known
    assert (before.epochs, one.epochs) == (0, 1)


def test_a_model_that_went_through_a_store_learns_the_same(images):
    kept = model.learn(model.create(0), images, 0.05)
    buffers = []
    body = pickle.dumps(kept, 5, buffer_callback=buffers.append)
    restored = pickle.loads(body, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert model.digest(model.learn(restored, images, 0.05)) == model.digest(model.learn(kept, images, 0.05))


def test_the_digest_sees_a_single_bit(images):
    learnt = model.learn(model.create(0), images, 0.05)
    momentum = learnt.layers[-1].biases_momentum.copy()
    momentum.view(np.uint32)[3] ^= 1
    layers = (*learnt.layers[:-1], attrs.evolve(learnt.layers[-1], biases_momentum=momentum))
    assert model.digest(attrs.evolve(learnt, layers=layers)) != model.digest(learnt)


def test_a_step_goes_down_the_gradient(images):
    some = data.Images(images.pixels[:16], images.labels[:16])
    start = model.create(0, hidden=(6, 5))
    moved = model.learn(start, some, rate=1.0, batch=16, momentum=0.0)
    for at, name, place in [
        (0, "weights", (20, 3)),
        (1, "weights", (2, 2)),
        (2, "weights", (1, 7)),
        (2, "biases", (4,)),
    ]:
        gradient = getattr(start.layers[at], name)[place] - getattr(moved.layers[at], name)[place]
        assert gradient == pytest.approx(_slope(start, some, at, name, place), rel=1e-3, abs=1e-5)


def _slope(start, images, at, name, place, step=1e-4):
    losses = []
    for sign in (1, -1):
        parts = [[layer.weights.astype(float), layer.biases.astype(float)] for layer in start.layers]
        parts[at][name == "biases"][place] += sign * step
        values = data.as_shades(images.pixels).reshape(len(images), -1).astype(float)
        for number, (weights, biases) in enumerate(parts):
            values = values @ weights + biases
            values = np.maximum(values, 0) if number < len(parts) - 1 else values
        powers = np.exp(values)
        shares = powers / powers.sum(axis=1, keepdims=True)
        losses.append(-np.log(shares[np.arange(len(images)), images.labels]).mean())
    return (losses[0] - losses[1]) / (2 * step)


def test_it_learns(images):
    learnt = model.create(0)
    for _ in range(5):
        learnt = model.learn(learnt, images, 0.05)
    seen = model.predict(learnt, images)
    assert (seen == images.labels).mean() > 0.9
    counts = model.confusion(seen, images.labels)
    assert counts.sum() == len(images)
    assert np.array_equal(counts.sum(axis=1), np.bincount(images.labels, minlength=10))
    assert counts.trace() == (seen == images.labels).sum()
