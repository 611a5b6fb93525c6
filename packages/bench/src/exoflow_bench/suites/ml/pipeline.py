"""The training pipeline as a workflow: which tasks there are, what they read, and what is kept of each.

::

    fetch -> ingest_0 ... ingest_7 -> split -+-> augment_0   augment_1   ...                        +-> evaluate
                                             |     |           |                                    |
                                 create -----|-> train_0 --> train_1 --> ... --> train_24 ----------+
                                             +------------------------------------------------------+

and for each epoch a `schedule`, which lets augmentation run one epoch ahead of training and no further.

No task has an effect outside the workflow, so what is kept is a matter of cost alone, chosen task by task:

- what comes from outside (`fetch`) may differ next time, and everything is made of it: ``sync``;
- the chunks are cheap to keep and are wanted again after a crash, but nobody needs to wait for the disk: ``async``;
- distorted images are large, and come out of their seed again bit for bit: ``skip``;
- the model is kept every few epochs, ``sync``; the epochs between are run again.

Source:
    Zhuang et al., "ExoFlow", OSDI 2023, section 5.1: its ML pipeline, smaller. What is kept is, but for `fetch`, what
    its figure 6 calls "Selective AsyncCkpt".
"""

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

import exoflow
from exoflow_bench.suites.ml import data, model

__all__ = ["Epoch", "Settings", "Trained", "pipeline"]


@attrs.frozen(kw_only=True)
class Settings:
    """What can be varied. The same settings give the same model, bit for bit."""

    epochs: int = attrs.field(default=25, validator=attrs.validators.ge(1))
    seed: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    chunks: int = attrs.field(default=8, validator=attrs.validators.ge(1))
    copies: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    """Distorted images made of each original, for each epoch."""
    keep_data: str = "async"
    """The checkpoint mode of the tasks that prepare the data."""
    keep_augmented: str = "skip"
    """The checkpoint mode of `augment`."""
    keep_model_every: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    """The model is kept after epochs 0, 5, 10, ..."""


@attrs.frozen
class Epoch:
    """How one pass over the images is done."""

    number: int
    rate: float
    copies: int


@attrs.frozen(eq=False)
class Trained:
    """The result of the workflow."""

    model: model.Model
    accuracy: float
    """The share of the test images in which the model sees what they show."""
    confusion: NDArray[np.int64]
    test_images: int
    train_images: int


# --- the tasks --------------------------------------------------------------------------------------------------------


@exoflow.task(effects="none", checkpoint="sync")
def fetch() -> bytes:
    """Get the archive of images."""
    return data.read_archive()


@exoflow.task(effects="none", deterministic=True, checkpoint="async")
def ingest(archive: bytes, chunk: int, chunks: int) -> data.Images:
    """Decode and filter one chunk of the archive."""
    return data.decode(archive, chunk, chunks)


@exoflow.task(effects="none", deterministic=True, checkpoint="async")
def split(chunks: Sequence[data.Images], seed: int) -> data.Split:
    """Put images aside for the test."""
    return data.split(chunks, seed)


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def create(seed: int) -> model.Model:
    """Make an untrained model."""
    return model.create(seed)


@exoflow.task(effects="none", deterministic=True, checkpoint="sync")
def schedule(number: int, epochs: int, copies: int) -> Epoch:
    """Decide how an epoch is done. Waiting for earlier ones, it bounds how far augmentation runs ahead."""
    return Epoch(number, 0.025 * (1 + math.cos(math.pi * number / epochs)), copies)


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def augment(images: data.Split, epoch: Epoch, seed: int) -> data.Images:
    """Make the images of one epoch: other distortions of the same originals each time."""
    return data.distort(images.train, (seed, epoch.number), epoch.copies)


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def train(before: model.Model, images: data.Images, epoch: Epoch) -> model.Model:
    """Train the model for one epoch."""
    return model.learn(before, images, epoch.rate)


@exoflow.task(effects="none", deterministic=True, checkpoint="sync")
def evaluate(trained: model.Model, images: data.Split) -> Trained:
    """Test the model on images it has never seen."""
    seen = model.predict(trained, images.test)
    accuracy = float((seen == images.test.labels).mean())
    return Trained(trained, accuracy, model.confusion(seen, images.test.labels), len(images.test), len(images.train))


# --- the workflow -----------------------------------------------------------------------------------------------------


def pipeline(settings: Settings | None = None) -> exoflow.Node:
    """Return the workflow, whose result is a `Trained`."""
    chosen = settings or Settings()
    archive = fetch.options(task_id="fetch").bind()
    chunks = [
        ingest.options(task_id=f"ingest_{at}", checkpoint=chosen.keep_data).bind(archive, at, chosen.chunks)
        for at in range(chosen.chunks)
    ]
    images = split.options(task_id="split", checkpoint=chosen.keep_data).bind(chunks, chosen.seed)
    state = create.options(task_id="create").bind(chosen.seed)
    states: list[exoflow.Node] = []
    for at in range(chosen.epochs):
        # What waits here is the small schedule, not the augmentation itself: it is kept, so that going on after a crash
        # never asks for an epoch whose model was not.
        earlier = [states[at - 2]] if at >= 2 else []
        epoch = schedule.options(task_id=f"schedule_{at}", after=earlier).bind(at, chosen.epochs, chosen.copies)
        augmented = augment.options(task_id=f"augment_{at}", checkpoint=chosen.keep_augmented).bind(
            images, epoch, chosen.seed
        )
        keep = "sync" if at % chosen.keep_model_every == 0 else "skip"
        state = train.options(task_id=f"train_{at}", checkpoint=keep).bind(state, augmented, epoch)
        states.append(state)
    return evaluate.options(task_id="evaluate").bind(state, images)
