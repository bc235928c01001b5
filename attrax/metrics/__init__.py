"""Numbers that say how far an attribution can be trusted.

Each function judges one attribution of one example; `jax.vmap` maps it over a batch, and nothing is
compiled or random unless the caller says so. Evaluations of `fn` come in chunks of `batch_size`:
memory grows with a chunk, and not with the number of samples or steps. What is averaged over random
samples comes back as `attrax.Estimate(value, standard_error)`.

NaN in an attribution makes its metrics NaN: it has no rank and no size. An infinite entry ranks
first or last; where sizes count, the result is not finite either.

| question | functions |
|---|---|
| does it add up? | `completeness_gap` |
| does it predict what a perturbation does? | `infidelity`, `mufidelity`, `sensitivity_n` |
| do the features ranked first matter most? | `insertion_curve`, `deletion_curve`, `area`, `road` |
| does it hold still when the example hardly moves? | `max_sensitivity` |
| does it depend on what the model has learned? | `parameter_randomisation`, `label_randomisation` |
| does it point at the object? | `pointing_game`, `relevance_mass`, `relevance_rank` |
| how much of it has to be read? | `gini`, `complexity` |

None of them is the truth. Those that replace features ask the model about examples that it was
never trained on, and answer for the baseline as much as for the attribution. Compare methods by
several of them, with the baseline chosen beforehand, beside a random ranking.
"""

from .._core._names import shown
from ._completeness import completeness_gap as completeness_gap
from ._complexity import complexity as complexity
from ._complexity import gini as gini
from ._correlation import mufidelity as mufidelity
from ._correlation import rank_correlation as rank_correlation
from ._correlation import sensitivity_n as sensitivity_n
from ._curves import area as area
from ._curves import deletion_curve as deletion_curve
from ._curves import insertion_curve as insertion_curve
from ._imputation import noisy_linear_imputation as noisy_linear_imputation
from ._imputation import road as road
from ._localisation import pointing_game as pointing_game
from ._localisation import relevance_mass as relevance_mass
from ._localisation import relevance_rank as relevance_rank
from ._perturbation import infidelity as infidelity
from ._perturbation import max_sensitivity as max_sensitivity
from ._sanity import cascading as cascading
from ._sanity import independent as independent
from ._sanity import label_randomisation as label_randomisation
from ._sanity import leaf_names as leaf_names
from ._sanity import parameter_randomisation as parameter_randomisation
from ._sanity import randomised as randomised
from ._sanity import shuffled as shuffled

__dir__ = shown(__name__)
del shown
