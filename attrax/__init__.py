"""Attributions for any JAX function: which parts of a value made the score what it is."""

from typing import TYPE_CHECKING

from . import metrics as metrics
from . import paths as paths
from . import priors as priors
from . import quadrature as quadrature
from . import scores as scores
from ._attention import attention_rollout as attention_rollout
from ._attention import gradient_weighted_attention as gradient_weighted_attention
from ._cam import cam as cam
from ._cam import grad_cam as grad_cam
from ._cam import grad_cam_plus_plus as grad_cam_plus_plus
from ._cam import hires_cam as hires_cam
from ._cam import layer_cam as layer_cam
from ._cam import score_cam as score_cam
from ._cam import upsample as upsample
from ._certified import certified_conductance as certified_conductance
from ._certified import certified_integrated_gradients as certified_integrated_gradients
from ._channels import ChannelRanking as ChannelRanking
from ._channels import channels as channels
from ._channels import positions as positions
from ._channels import rank_channels as rank_channels
from ._concepts import SignificanceTest as SignificanceTest
from ._concepts import concept_sensitivity as concept_sensitivity
from ._concepts import tcav_magnitude as tcav_magnitude
from ._concepts import tcav_score as tcav_score
from ._concepts import tcav_significance as tcav_significance
from ._conductance import conductance as conductance
from ._conductance import double_reverse as double_reverse
from ._conductance import internal_influence as internal_influence
from ._conductance import neuron_conductance as neuron_conductance
from ._cpu import for_cpu as for_cpu
from ._cuts import capture as capture
from ._cuts import cut as cut
from ._cuts import gradients_at as gradients_at
from ._cuts import intervene as intervene
from ._cuts import layers as layers
from ._decision import integrated_decision_gradients as integrated_decision_gradients
from ._expected import expected_gradients as expected_gradients
from ._fullgrad import FullGradient as FullGradient
from ._fullgrad import full_gradient as full_gradient
from ._fullgrad import full_gradient_map as full_gradient_map
from ._gradient import gradient as gradient
from ._gradient import gradient_times_input as gradient_times_input
from ._guided import guided_integrated_gradients as guided_integrated_gradients
from ._important import idgi as idgi
from ._influence import influence as influence
from ._integrated import integrated_gradients as integrated_gradients
from ._integrated import path_integrated_gradients as path_integrated_gradients
from ._interactions import integrated_hessian_product as integrated_hessian_product
from ._interactions import integrated_hessians as integrated_hessians
from ._memory import FittingBatchSize as FittingBatchSize
from ._memory import fitting_batch_size as fitting_batch_size
from ._models import Model as Model
from ._models import as_model as as_model
from ._models import unbatched as unbatched
from ._names import Layer as Layer
from ._names import Layers as Layers
from ._noise import smoothgrad as smoothgrad
from ._noise import smoothgrad_squared as smoothgrad_squared
from ._noise import vargrad as vargrad
from ._strongest import ChannelExplanation as ChannelExplanation
from ._strongest import strongest_channel as strongest_channel
from ._taps import tap as tap
from ._types import Certified as Certified
from ._types import Estimate as Estimate

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import html as html
    from . import plot as plot
    from . import visualise as visualise
    from ._linen import from_linen as from_linen
    from ._nnx import from_nnx as from_nnx

__version__ = "0.1.0"

_LAZY = {
    "datasets": ".datasets",
    "from_linen": "._linen",
    "from_nnx": "._nnx",
    "html": ".html",
    "plot": ".plot",
    "visualise": ".visualise",
}


def __getattr__(name: str):
    """Load what needs flax, optax or matplotlib on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_LAZY[name], __name__)
    return module if _LAZY[name] == f".{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
