"""Quadrature rules on [0, 1]: tables of nodes and weights, built in float64 on the host.

A rule is a value. It says where on a path gradients are taken and with which weights they are
summed; it knows nothing of gradients. `n` is always the number of evaluations.

| rule | exact for polynomials of degree | error on a smooth integrand |
|---|---|---|
| `riemann_left(n)`, `riemann_right(n)` | 0 | 1/n |
| `endpoint_mean(n)` | 1 | 1/n |
| `midpoint(n)`, `trapezoid(n)` | 1 | 1/n^2 |
| `simpson(n)` | 3 | 1/n^4 |
| `clenshaw_curtis(n)` | n - 1 (n if n is odd) | spectral |
| `gauss_legendre(n)` | 2n - 1 | spectral |
| `gauss_kronrod(2m + 1)` | 3m + 1 (3m + 2 if m is odd) | spectral |

`stieltjes(n)` sums over the differences of a function instead of integrating its derivative, for
`attrax.conductance` at ReLU layers. `gauss_logarithmic(n)` integrates against `-log t` instead, for
`attrax.integrated_hessians`.
On a piecewise linear network the gradient jumps along the path, and every rule is of first order.
"""

from .._core._names import shown
from ._composite import composite as composite
from ._padded import padded as padded
from ._rule import Rule as Rule
from ._stieltjes import Stieltjes as Stieltjes
from ._stieltjes import stieltjes as stieltjes
from ._tables import clenshaw_curtis as clenshaw_curtis
from ._tables import endpoint_mean as endpoint_mean
from ._tables import gauss_kronrod as gauss_kronrod
from ._tables import gauss_legendre as gauss_legendre
from ._tables import gauss_logarithmic as gauss_logarithmic
from ._tables import midpoint as midpoint
from ._tables import riemann_left as riemann_left
from ._tables import riemann_right as riemann_right
from ._tables import simpson as simpson
from ._tables import trapezoid as trapezoid

__dir__ = shown(__name__)
del shown
