"""Feature visualisation: pictures of what a neuron, a channel, a direction or a class looks for.

    parameterisation = visualise.fourier((64, 64))

    @jax.jit
    def picture(model, channel, key):
        def objective(image):
            z = attrax.capture(model, 2 * image - 1, at="block5")
            return visualise.mean_channel(z, channel)

        return visualise.render(objective, parameterisation, key=key, steps=128).image

Four values decide what comes out: the **objective**, a function of a captured activation; the
**parameterisation**, what is optimised in place of pixels; the **transform**, which the feature has
to survive; and the optimiser. Every channel of a layer at once is `sprites`, and `Spritemap` keeps
them as one picture with its layout. `activation_tiles` redraws an image as what each position of a
layer sees.
"""

from .._core._names import shown
from ._colours import NATURAL as NATURAL
from ._colours import colour_matrix as colour_matrix
from ._grid import activation_tiles as activation_tiles
from ._grid import with_strength as with_strength
from ._groups import Groups as Groups
from ._groups import neuron_groups as neuron_groups
from ._images import Parameterisation as Parameterisation
from ._images import fourier as fourier
from ._images import maco as maco
from ._images import magnitude_spectrum as magnitude_spectrum
from ._images import pixels as pixels
from ._images import stacked as stacked
from ._images import transparent as transparent
from ._objectives import alignment as alignment
from ._objectives import boundary_complexity as boundary_complexity
from ._objectives import caricature as caricature
from ._objectives import centre_neuron as centre_neuron
from ._objectives import cosine_direction as cosine_direction
from ._objectives import deep_dream as deep_dream
from ._objectives import detail as detail
from ._objectives import diversity as diversity
from ._objectives import interpolation as interpolation
from ._objectives import l1 as l1
from ._objectives import l2 as l2
from ._objectives import mean_channel as mean_channel
from ._objectives import opacity as opacity
from ._objectives import total_variation as total_variation
from ._relu import redirected_relu as redirected_relu
from ._relu import redirected_relu6 as redirected_relu6
from ._render import ADAM as ADAM
from ._render import Objective as Objective
from ._render import Rendering as Rendering
from ._render import State as State
from ._render import render as render
from ._spritemap import Spritemap as Spritemap
from ._spritemap import SpritemapName as SpritemapName
from ._spritemap import load_spritemap as load_spritemap
from ._spritemap import over_background as over_background
from ._spritemap import spritemap_file as spritemap_file
from ._spritemap import spritemaps as spritemaps
from ._sprites import Draw as Draw
from ._sprites import sprite as sprite
from ._sprites import sprites as sprites
from ._transforms import STANDARD as STANDARD
from ._transforms import Transform as Transform
from ._transforms import affine as affine
from ._transforms import compose as compose
from ._transforms import crop_or_pad as crop_or_pad
from ._transforms import jitter as jitter
from ._transforms import over_random_background as over_random_background
from ._transforms import pad as pad
from ._transforms import reflect as reflect
from ._transforms import rotate as rotate
from ._transforms import scale as scale
from ._transforms import warp as warp

__dir__ = shown(__name__)
del shown
