"""Paths from a baseline to an example: where gradients are taken.

A path is a function `path(x, baseline)` that returns a curve `t -> point`, at the baseline for
t = 0 and at `x` for t = 1. `attrax.path_integrated_gradients` follows any such function.

Points are computed in float32 or wider and cast to the dtypes of `x` afterwards: bfloat16 has three
digits, too few to tell neighbouring nodes apart.
"""

from .._core._names import shown
from ._blur import blur as blur
from ._lines import interpolate as interpolate
from ._lines import polyline as polyline
from ._lines import straight as straight
from ._tokenwise import tokenwise as tokenwise

__dir__ = shown(__name__)
del shown
