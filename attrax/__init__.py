"""Attributions for any JAX function: which parts of a value made the score what it is."""

from typing import TYPE_CHECKING

from . import concepts as concepts
from . import distributions as distributions
from . import metrics as metrics
from . import paths as paths
from . import priors as priors
from . import quadrature as quadrature
from . import scores as scores
from . import text as text
from ._core._types import Certified as Certified
from ._core._types import Estimate as Estimate
from ._cpu._for_cpu import for_cpu as for_cpu
from ._cpu._memory import FittingBatchSize as FittingBatchSize
from ._cpu._memory import fitting_batch_size as fitting_batch_size
from ._methods._attention import attention_rollout as attention_rollout
from ._methods._attention import gradient_weighted_attention as gradient_weighted_attention
from ._methods._cam import cam as cam
from ._methods._cam import grad_cam as grad_cam
from ._methods._cam import grad_cam_plus_plus as grad_cam_plus_plus
from ._methods._cam import hires_cam as hires_cam
from ._methods._cam import layer_cam as layer_cam
from ._methods._cam import score_cam as score_cam
from ._methods._cam import upsample as upsample
from ._methods._certified import certified_conductance as certified_conductance
from ._methods._certified import certified_integrated_gradients as certified_integrated_gradients
from ._methods._conductance import conductance as conductance
from ._methods._conductance import internal_influence as internal_influence
from ._methods._conductance import neuron_conductance as neuron_conductance
from ._methods._conductance import reverse_jvp as reverse_jvp
from ._methods._decision import integrated_decision_gradients as integrated_decision_gradients
from ._methods._expected import expected_gradients as expected_gradients
from ._methods._fullgrad import FullGradient as FullGradient
from ._methods._fullgrad import full_gradient as full_gradient
from ._methods._fullgrad import full_gradient_map as full_gradient_map
from ._methods._gradient import gradient as gradient
from ._methods._gradient import gradient_times_input as gradient_times_input
from ._methods._guided import guided_integrated_gradients as guided_integrated_gradients
from ._methods._idgi import idgi as idgi
from ._methods._influence import influence as influence
from ._methods._integrated import integrated_gradients as integrated_gradients
from ._methods._integrated import path_integrated_gradients as path_integrated_gradients
from ._methods._interactions import integrated_hessian_product as integrated_hessian_product
from ._methods._interactions import integrated_hessians as integrated_hessians
from ._methods._noise import smoothgrad as smoothgrad
from ._methods._noise import smoothgrad_squared as smoothgrad_squared
from ._methods._noise import vargrad as vargrad
from ._methods._reduce import ChannelRanking as ChannelRanking
from ._methods._reduce import channels as channels
from ._methods._reduce import positions as positions
from ._methods._reduce import rank_channels as rank_channels
from ._methods._strongest import ChannelExplanation as ChannelExplanation
from ._methods._strongest import strongest_channel as strongest_channel
from ._models._adapters import as_model as as_model
from ._models._check import check as check
from ._models._cuts import capture as capture
from ._models._cuts import cut as cut
from ._models._cuts import layers as layers
from ._models._edits import gradients_at as gradients_at
from ._models._edits import intervene as intervene
from ._models._model import Model as Model
from ._models._names import Layer as Layer
from ._models._names import Layers as Layers
from ._models._taps import tap as tap
from ._models._unbatched import unbatched as unbatched

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import html as html
    from . import plot as plot
    from . import visualise as visualise
    from ._models._equinox import from_equinox as from_equinox
    from ._models._haiku import from_haiku as from_haiku
    from ._models._keras import from_keras as from_keras
    from ._models._linen import from_linen as from_linen
    from ._models._nnx import from_nnx as from_nnx

__version__ = "0.1.0"

_LAZY = {
    "datasets": ".datasets",
    "from_equinox": "._models._equinox",
    "from_haiku": "._models._haiku",
    "from_keras": "._models._keras",
    "from_linen": "._models._linen",
    "from_nnx": "._models._nnx",
    "html": ".html",
    "plot": ".plot",
    "visualise": ".visualise",
}


def __getattr__(name: str):
    """Load what needs flax, optax, matplotlib or another library on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_LAZY[name], __name__)
    return module if _LAZY[name] == f".{name}" else getattr(module, name)


def __dir__() -> list[str]:
    own = {name for name in globals() if not name.startswith("_")}
    return sorted((own | _LAZY.keys() | {"__version__"}) - {"TYPE_CHECKING"})
