"""The types of normalisation of TruLens, and where the same values stand on the scales here."""

import numpy as np
import pytest

import parity_models
from attrax import plot
from comparisons import close
from differences import DIFFERENCES
from parity_models import cases

DATA = "trulens_pictures.json"
ATTRIBUTIONS = np.array(parity_models.load("trulens_mask.json")["attributions"])


def on_scale(ax):
    """Where the drawn values stand between the ends of the scale."""
    image = ax.images[0]
    return np.asarray(image.norm(image.get_array()))


def end(ax):
    return ax.images[0].get_clim()[1]


def one_by_one(draw):
    """What is drawn of each channel alone."""
    return [[draw(image[..., c], percentile=100) for c in range(3)] for image in ATTRIBUTIONS]


@cases(DATA, "norm.magnitude_max", "norm.unsigned_max_positive_centered")
def test_scales_are_normalisations(case):
    draw = plot.heatmap if "magnitude" in case["id"] else plot.signed
    expected = np.moveaxis(np.array(case["expected"]["normalized"]), -1, 1)
    found = np.array([list(map(on_scale, row)) for row in one_by_one(draw)])
    close(found, expected)


@cases(DATA, "norm.magnitude_sum")
def test_shares_have_the_same_colours(case):
    shares = np.array(case["expected"]["normalized"])
    for image, share, wanted in zip(
        ATTRIBUTIONS, shares, DIFFERENCES[case["id"]].textbook, strict=True
    ):
        close(np.abs(image) / np.abs(image).sum(), share)
        ours, theirs = plot.heatmap(image, percentile=100), plot.heatmap(share, percentile=100)
        close(on_scale(theirs), on_scale(ours))
        assert end(ours) == pytest.approx(wanted, rel=1e-9)
        assert end(theirs) == pytest.approx(wanted / np.abs(image).sum(), rel=1e-9)


@cases(DATA, "norm.signed_max", "norm.signed_sum")
def test_both_signs_have_one_scale(case):
    for i, (image, wanted) in enumerate(
        zip(ATTRIBUTIONS, DIFFERENCES[case["id"]].textbook, strict=True)
    ):
        ours, total = plot.signed(image, percentile=100), image.sum(axis=-1)
        assert end(ours) == pytest.approx(wanted, rel=1e-9)
        close(on_scale(ours), 0.5 + total / end(ours) / 2)
        # TruLens: the largest of each channel, or the sum over all.
        statistic, axes = (np.max, (0, 1)) if "max" in case["id"] else (np.sum, None)
        above, below = statistic(image.clip(0), axes), statistic(-image.clip(None, 0), axes)
        recorded = np.array(case["expected"]["normalized"][i])
        close(image / np.where(image > 0, above, below), recorded)


@cases(DATA, "norm.01")
def test_zero_has_one_place(case):
    recorded = np.moveaxis(np.array(case["expected"]["normalized"]), -1, 1)
    zeros = []
    for image, row in zip(recorded, one_by_one(plot.signed), strict=True):
        for theirs, ax in zip(image, row, strict=True):
            norm, values = ax.images[0].norm, np.asarray(ax.images[0].get_array())
            assert norm(0.0) == pytest.approx(DIFFERENCES[case["id"]].textbook)
            close((values - values.min()) / np.ptp(values), theirs)
            zeros.append(-values.min() / np.ptp(values))
    assert np.ptp(zeros) > 0.1  # where TruLens has it
