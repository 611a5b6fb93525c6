import gzip
import sys

import numpy as np
import pytest

from exoflow_bench.suites.ml import data


@pytest.fixture(scope="module")
def archive():
    return data.read_archive()


@pytest.fixture(scope="module")
def digits(archive):
    return data.decode(archive)


def test_the_archive_is_the_data_set_of_scikit_learn_without_importing_it(digits):
    loaded_before = "sklearn" in sys.modules
    data.read_archive()
    assert ("sklearn" in sys.modules) == loaded_before

    from sklearn.datasets import load_digits

    theirs = load_digits()
    assert len(digits) == 1797
    assert np.array_equal(digits.pixels, theirs.images)
    assert np.array_equal(digits.labels, theirs.target)


@pytest.mark.parametrize("chunks", [1, 2, 8, 1000])
def test_chunks_are_the_whole_in_order(archive, digits, chunks):
    parts = [data.decode(archive, at, chunks) for at in range(chunks)] if chunks < 100 else _sparse(archive, chunks)
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), digits.pixels[: sum(map(len, parts))])
    if chunks < 100:
        assert sum(map(len, parts)) == len(digits)


def _sparse(archive, chunks):
    return [data.decode(archive, at, chunks) for at in range(10)]


def test_lines_that_are_no_image_of_a_digit_are_dropped():
    image = [0] * 32 + [16] * 32
    lines = [
        [*image, 7],
        [*image, 10],  # no digit
        [*image[:-1], 7],  # too few pixels
        [*image, 0, 7],  # too many
        [*image[:-1], 17, 7],  # darker than black
        [*image[:-1], -1, 7],
        [0] * 64 + [7],  # no ink
        ["x", *image[1:], 7],
        [""],
    ]
    text = "\n".join(",".join(map(str, line)) for line in lines)
    found = data.decode(gzip.compress(text.encode()))
    assert found.labels.tolist() == [7]
    assert found.pixels.shape == (1, 8, 8)


def test_a_chunk_without_images_is_empty():
    assert data.decode(gzip.compress(b"nothing")).pixels.shape == (0, 8, 8)


def test_a_split_deals_every_image_out_once(digits):
    dealt = data.split([digits], seed=3)
    assert (len(dealt.test), len(dealt.train)) == (359, 1438)
    both = np.concatenate([dealt.train.pixels, dealt.test.pixels]).reshape(len(digits), -1)
    assert np.array_equal(np.unique(both, axis=0), np.unique(digits.pixels.reshape(len(digits), -1), axis=0))


def test_a_split_depends_on_the_seed_alone(digits):
    one, same, other = (data.split([digits], seed) for seed in (3, 3, 4))
    assert np.array_equal(one.test.pixels, same.test.pixels)
    assert np.array_equal(one.train.labels, same.train.labels)
    assert not np.array_equal(one.test.pixels, other.test.pixels)


def test_a_seed_gives_the_same_distortions_bit_for_bit(digits):
    one, same = (data.distort(digits, (0, 7), copies=2) for _ in range(2))
    assert one.pixels.tobytes() == same.pixels.tobytes()
    assert one.labels.tobytes() == same.labels.tobytes()


def test_another_epoch_gives_other_distortions(digits):
    one, other = (data.distort(digits, (0, epoch), copies=1) for epoch in (7, 8))
    assert not np.array_equal(one.pixels, other.pixels)


def test_distorting_changes_images_but_not_what_they_show(digits):
    found = data.distort(digits, (0, 0), copies=3)
    assert found.pixels.shape == (3 * 1797, 8, 8)
    assert found.pixels.dtype == np.float32
    assert found.pixels.min() >= 0
    assert found.pixels.max() <= 1
    assert np.array_equal(np.bincount(found.labels), 3 * np.bincount(digits.labels))
    assert digits.pixels.max() == 16  # and the originals are as they were


def test_distorting_by_nothing_only_shuffles(digits):
    found = data.distort(digits, (0, 0), 1, turn_degrees=0, shift_pixels=0, stretch=0, noise=0)
    before = np.column_stack([data.as_shades(digits.pixels).reshape(1797, -1), digits.labels])
    after = np.column_stack([found.pixels.reshape(1797, -1), found.labels])
    assert np.array_equal(np.unique(before, axis=0), np.unique(after, axis=0))
    assert not np.array_equal(before, after)


def test_a_shift_by_one_pixel_moves_the_image_by_one_pixel():
    pixels = np.zeros((1, 8, 8), np.uint8)
    pixels[0, 3:5, 3:5] = 16
    shifted = np.zeros((8, 8), np.float32)
    dot = data.Images(pixels, np.array([0]))
    for seed in range(20):
        found = data.distort(dot, (seed,), 1, turn_degrees=0, shift_pixels=1, stretch=0, noise=0).pixels[0]
        assert found.sum() == pytest.approx(4, abs=1e-4)  # interpolation moves ink and loses none
        shifted += found > 0
    assert shifted[2:6, 2:6].all()
    assert not shifted[[0, 1, 6, 7]].any()
    assert not shifted[:, [0, 1, 6, 7]].any()
