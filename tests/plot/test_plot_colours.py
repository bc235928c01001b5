"""Colours that are to be told apart are, also by those who see fewer of them."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from attrax.plot import _canvas, _features, _time_series

color = pytest.importorskip("skimage.color")

# How colours look without one of the three cones, in linear RGB: Machado, Oliveira and Fernandes
# (2009), doi:10.1109/TVCG.2009.113, severity 1.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(colours, matrix):
    """Colours in CIELAB as they are seen; lightness is the first number, from 0 to 100."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.asarray(matrix).T).clip(0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return color.rgb2lab(srgb[None])[0]


def distance(one, other):
    """CIEDE2000: 1 is the least that is seen side by side, 10 is seen at a glance."""
    return color.deltaE_ciede2000(one, other)


@pytest.fixture(params=SIGHT, ids=str)
def sight(request):
    return SIGHT[request.param]


@pytest.mark.parametrize(
    "scale", [_canvas.SIGNED, _time_series._BEHIND, _time_series._LINE], ids=lambda s: s.name
)
def test_signs_are_told_apart(scale, sight):
    for size in (0.25, 0.5, 0.75, 1.0):
        negative, positive = seen([scale(0.5 - size / 2), scale(0.5 + size / 2)], sight)
        assert distance(negative, positive) > 9


def test_bars_of_both_signs_are_told_apart(sight):
    negative, positive = seen([_canvas.NEGATIVE, _canvas.POSITIVE], sight)
    assert distance(negative, positive) > 35


def test_methods_are_told_apart(sight):
    for one, other in itertools.combinations(seen(_canvas.NAMED, sight), 2):
        assert distance(one, other) > 10


def test_scales_of_magnitude_ascend_in_lightness(sight):
    for scale in (_canvas.part_of(_canvas.MAGNITUDE, 0.0, 1.0), _features._VALUES):
        lightness = seen(scale(np.linspace(0, 1, 33)), sight)[:, 0]
        assert (np.diff(lightness) > 0).all()


def test_signed_scales_descend_in_lightness_from_zero(sight):
    for sign in (-1, 1):
        shares = 0.5 + sign * np.linspace(0, 0.5, 17)
        lightness = seen(_canvas.SIGNED(shares), sight)[:, 0]
        assert (np.diff(lightness) < 0).all()
