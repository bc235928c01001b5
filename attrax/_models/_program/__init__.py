"""Reads and rewrites traced programs: the only code that looks inside equations.

A program is a jaxpr. `normalise` brings it into a form in which every value has an address: jitted
functions are inlined, and every module call, named function and primitive is followed by a tap that
carries its addresses. No equation is evaluated for it. On that form everything else is a small
graph operation:

    expose   move one tap to the top level (out of a remat, a branch, one iteration of a scan)
    split    the equations that depend on a tap (tail) and all the others (head)
    edit     add to, replace or read tapped values where they stand, in all iterations of a scan
    strip    remove the taps again: what is run holds none

`rewritten` is apart from these: it evaluates any program with some of its equations replaced.

The keys of `eqn.params` are not an API of JAX. Read here are `name`, `length`, `reverse`,
`unroll`, `policy`, `prevent_cse`, `num_consts` of a custom derivative, and whatever
holds a program; arities are derived from shapes.
"""

from ._comparing import Difference as Difference
from ._comparing import difference as difference
from ._custom_rules import closes_over_values as closes_over_values
from ._custom_rules import holds_dead_tracer as holds_dead_tracer
from ._dependence import depends as depends
from ._editing import Edits as Edits
from ._editing import Kept as Kept
from ._editing import edit as edit
from ._equations import Aval as Aval
from ._equations import Body as Body
from ._equations import Program as Program
from ._equations import Value as Value
from ._equations import held_arrays as held_arrays
from ._equations import input_avals as input_avals
from ._equations import output_avals as output_avals
from ._equations import run as run
from ._equations import trace as trace
from ._naming import Axes as Axes
from ._naming import BatchAxis as BatchAxis
from ._naming import normalise as normalise
from ._rewriting import Rewrite as Rewrite
from ._rewriting import rewritten as rewritten
from ._sites import Site as Site
from ._sites import is_open as is_open
from ._sites import sites as sites
from ._sites import strip as strip
from ._surgery import NoDependence as NoDependence
from ._surgery import Split as Split
from ._surgery import Upstream as Upstream
from ._surgery import expose as expose
from ._surgery import residuals as residuals
from ._surgery import split as split
from ._surgery import upto as upto
