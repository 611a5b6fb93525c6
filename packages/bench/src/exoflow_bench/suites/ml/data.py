"""The images: 1,797 handwritten digits, real ones, and what is done to them before a model sees them.

Everything that draws at random is given a seed and draws the same numbers every time: that makes it safe to throw
distorted images away and make them again after a crash.

Source:
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998: its
    test set, as scikit-learn ships it.
"""

import gzip
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "SIDE", "Images", "Split", "as_shades", "decode", "distort", "read_archive", "split"]

SIDE: Final = 8
"""Images are so many pixels high and wide."""

CLASSES: Final = 10

_DARKEST: Final = 16
_LEAST_INK: Final = 8 * _DARKEST
_MARGIN: Final = 2


@attrs.frozen(eq=False)
class Images:
    """Images with what they show."""

    pixels: NDArray[Any]
    """Images, rows, columns: whole numbers 0 to 16 as they were scanned, or 0.0 to 1.0 once they were distorted."""
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@attrs.frozen(eq=False)
class Split:
    """Images to learn from, and others to be tested with."""

    train: Images
    test: Images


def read_archive() -> bytes:
    """Return the compressed table of digits that scikit-learn ships, a line for each image.

    The file is looked up rather than asked for: importing scikit-learn would take longer than all that is done with it.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("scikit-learn brings the digits: pip install 'exoflow-bench[demo]'", name="sklearn")
    path = Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if path.is_file():
        return path.read_bytes()
    from sklearn.datasets import load_digits

    digits = load_digits()
    table = np.column_stack([digits.data, digits.target]).astype(int)
    return gzip.compress("\n".join(",".join(map(str, row)) for row in table.tolist()).encode(), mtime=0)


def decode(archive: bytes, chunk: int = 0, chunks: int = 1) -> Images:
    """Return one chunk of the images, without those that cannot be learnt from.

    Lines are dropped that are no image of eight by eight pixels in 17 shades with a digit as its label, and images
    with hardly any ink.

    Args:
        archive: As `read_archive` returns it.
        chunk: Which, from 0.
        chunks: How many there are.
    """
    lines = gzip.decompress(archive).decode().splitlines()
    begin, end = len(lines) * chunk // chunks, len(lines) * (chunk + 1) // chunks
    rows = [row for row in map(_decode_line, lines[begin:end]) if row is not None]
    table = np.array(rows, np.uint8).reshape(-1, SIDE * SIDE + 1)
    return Images(table[:, :-1].reshape(-1, SIDE, SIDE).copy(), table[:, -1].astype(np.int64))


def _decode_line(line: str) -> list[int] | None:
    try:
        *pixels, label = [int(float(number)) for number in line.split(",")]
    except ValueError:
        return None
    sound = (
        len(pixels) == SIDE * SIDE
        and min(pixels) >= 0
        and max(pixels) <= _DARKEST
        and 0 <= label < CLASSES
        and sum(pixels) >= _LEAST_INK
    )
    return [*pixels, label] if sound else None


def split(chunks: Sequence[Images], seed: int, test_share: float = 0.2) -> Split:
    """Join *chunks* and deal the images out, the same way for the same *seed*."""
    pixels = np.concatenate([chunk.pixels for chunk in chunks])
    labels = np.concatenate([chunk.labels for chunk in chunks])
    order = np.random.default_rng(seed).permutation(len(labels))
    test, train = np.split(order, [round(len(order) * test_share)])
    return Split(Images(pixels[train], labels[train]), Images(pixels[test], labels[test]))


def distort(
    images: Images,
    seed: Sequence[int],
    copies: int,
    *,
    turn_degrees: float = 12.0,
    shift_pixels: float = 0.9,
    stretch: float = 0.1,
    noise: float = 0.04,
) -> Images:
    """Return *copies* of each image as other hands might have written it, in a random order.

    Each copy is turned, shifted and stretched about its centre, by up to so much, and gets noise.

    Args:
        images: As scanned.
        seed: The same numbers give the same copies, bit for bit.
        copies: Of each.
        turn_degrees: At most so far, either way.
        shift_pixels: At most so far, in both directions.
        stretch: At most this share, larger or smaller.
        noise: Standard deviation of what is added to each pixel, of 1.0 for black.
    """
    random = np.random.default_rng(list(seed))
    originals = np.pad(as_shades(images.pixels), ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    of = np.repeat(np.arange(len(images)), copies)
    angle = np.deg2rad(random.uniform(-turn_degrees, turn_degrees, len(of))).astype(np.float32)
    scale = (1 + random.uniform(-stretch, stretch, len(of))).astype(np.float32)
    shift = random.uniform(-shift_pixels, shift_pixels, (2, len(of), 1, 1)).astype(np.float32)
    cosine, sine = (np.cos(angle) * scale)[:, None, None], (np.sin(angle) * scale)[:, None, None]
    centre = (SIDE - 1) / 2
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32) - np.float32(centre)
    moved = _sample(
        originals,
        of[:, None, None],
        cosine * rows + sine * columns + shift[0] + np.float32(centre + _MARGIN),
        cosine * columns - sine * rows + shift[1] + np.float32(centre + _MARGIN),
    )
    moved += random.normal(0.0, noise, moved.shape).astype(np.float32)
    order = random.permutation(len(of))
    return Images(np.clip(moved, 0.0, 1.0)[order], images.labels[of][order])


def as_shades(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return scanned pixels as 0.0 to 1.0; distorted ones are that already."""
    if pixels.dtype == np.float32:
        return pixels
    return pixels.astype(np.float32) / np.float32(_DARKEST)


def _sample(
    pixels: NDArray[np.float32], of: NDArray[np.intp], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what image *of* shows at places between its pixels: bilinear interpolation."""
    last = np.float32(pixels.shape[1] - 1.001)
    rows, columns = np.clip(rows, 0, last), np.clip(columns, 0, last)
    row, column = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - row.astype(np.float32), columns - column.astype(np.float32)
    upper = pixels[of, row, column] * (1 - right) + pixels[of, row, column + 1] * right
    lower = pixels[of, row + 1, column] * (1 - right) + pixels[of, row + 1, column + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.float32, copy=False)
