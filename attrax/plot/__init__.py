"""Pictures of attributions, drawn with matplotlib.

Two shapes of function. What fits in one picture draws on `ax`, or on a new figure when `ax` is
not given, and returns the `Axes`; what needs several pictures returns the `Figure`. Nothing is
shown, saved or registered with pyplot, so nothing leaks and no display is needed:

    ax = attrax.plot.heatmap(attribution, units="logit")
    ax.figure.savefig("heatmap.png")

In a notebook, run `%matplotlib inline` once and end a cell with the figure.

Inputs are NumPy or JAX arrays of one example, channels last. Colours mean the same everywhere:
blue is positive, red is negative, white is zero, and a dark-to-bright map shows magnitudes.
"""

from .._core._names import shown
from .._show._arrays import mask_array as mask_array
from .._show._arrays import saliency_array as saliency_array
from ._channel_bars import channel_comparison as channel_comparison
from ._channel_bars import channel_distribution as channel_distribution
from ._channel_bars import channel_ranking as channel_ranking
from ._convergence import Convergence as Convergence
from ._convergence import convergence as convergence
from ._curves import curves as curves
from ._features import features as features
from ._features import summary as summary
from ._maps import heatmap as heatmap
from ._maps import mask as mask
from ._maps import overlay as overlay
from ._maps import signed as signed
from ._panels import four_panel as four_panel
from ._panels import interpolation_strip as interpolation_strip
from ._panels import saliency as saliency
from ._time_series import time_series as time_series
from ._tokens import tokens as tokens

__dir__ = shown(__name__)
del shown
