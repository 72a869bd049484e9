import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dossr.runtime.images.padding import pad_to_multiple

sides = st.integers(1, 70)


@given(sides, sides, st.sampled_from([1, 4, 8, 16]))
def test_the_image_is_kept_and_the_sides_are_the_next_multiples(height, width, multiple):
    lr = np.arange(3 * height * width, dtype=np.float32).reshape(1, 3, height, width)
    padded = pad_to_multiple(lr, multiple)
    assert [s % multiple for s in padded.shape[2:]] == [0, 0]
    assert all(p - s < multiple for p, s in zip(padded.shape[2:], (height, width), strict=True))
    np.testing.assert_array_equal(padded[:, :, :height, :width], lr)


def test_the_pad_is_a_reflection():
    row = np.arange(10, dtype=np.float32).reshape(1, 1, 1, 10)
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [*range(10), 8, 7, 6, 5, 4, 3]


def test_a_side_not_larger_than_its_pad_repeats_its_edge():
    row = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
