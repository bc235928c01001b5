"""Pages of attributions: single HTML files that open anywhere and load nothing.

    page = attrax.html.semantic_dictionary(activation, image, sprites)
    page.save("dictionary.html")

Every function returns a `Page`, with its `html` and `save`; in a notebook the last line of a cell
shows it. A page contains its pictures, styles and script. It needs no server and no network, and
its content security policy forbids any request. It can be read in light and in dark, on narrow and
wide screens, and used with a mouse, by touch or with a keyboard.

Inputs are NumPy or JAX arrays of one example, channels last. Colours mean what they mean in
`attrax.plot`: blue is positive, red is negative. Texts are shown as they are: markup in them has
no effect.

**Sprites** are pictures of what each channel looks for: an array `(N, h, w, 3)`, or a mapping from
channel to picture for those that have one. Those of a `visualise.Spritemap` are
`dict(zip(spritemap.units, spritemap.sprites))`. **Tiles** are pictures of what each position sees,
as `visualise.activation_tiles` makes them.

Pages of many pictures lie beside a `gallery`, which links to them.
"""

from .._core._names import shown
from ._activation_grid import activation_grid as activation_grid
from ._attribution_maps import attribution_maps as attribution_maps
from ._caption import Caption as Caption
from ._channel_attribution import channel_attribution as channel_attribution
from ._features import features as features
from ._gallery import Item as Item
from ._gallery import gallery as gallery
from ._neuron_groups import neuron_groups as neuron_groups
from ._page import Page as Page
from ._semantic_dictionary import semantic_dictionary as semantic_dictionary
from ._spatial_attribution import spatial_attribution as spatial_attribution
from ._tokens import plain_tokens as plain_tokens
from ._tokens import tokens as tokens

__dir__ = shown(__name__)
del shown
