"""Captum on the twins in PyTorch of the benchmarks' networks."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from . import networks, timing
from .networks import Subject

INSTALL = "not installed: pip install torch captum"


def missing() -> str | None:
    """Why there is no peer; None where there is one."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "captum")):
        return INSTALL
    if jax.default_backend() != "cpu":
        import torch  # pyright: ignore[reportMissingImports]

        if not torch.cuda.is_available():
            return f"PyTorch does not run on {jax.devices()[0].device_kind}"
    return None


def cannot_compile() -> str | None:
    """Why `torch.compile` cannot make programs for this device; None where it can."""
    compilers = os.environ.get("CXX"), "g++", "clang++"
    if jax.default_backend() == "cpu" and not any(map(shutil.which, filter(None, compilers))):
        return "torch.compile needs a C++ compiler, and there is none"
    return None


class Captum:
    """Captum on the twin of a network, which has the same outputs before anything is timed.

    As many threads as JAX has. Channels come last in memory, which is faster on these devices than
    PyTorch's default.
    """

    def __init__(self, key: str, subject: Subject):
        # Else a first call would find what an earlier run of the benchmarks left on disk.
        os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        import captum.attr  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(timing.threads())
        self.torch, self.methods, self.subject = torch, captum.attr, subject
        self.device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        if self.device == "cuda":
            # As JAX does by default: factors of float32 products are rounded to tf32.
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        self.module = twin(key, subject).to(self.device)
        if subject.is_convolutional:
            self.module = self.module.to(memory_format=torch.channels_last)
        self.xs = [self._tensor(x) for x in subject.xs[:2]]
        self.targets = [int(target) for target in subject.targets[:2]]
        expected = np.asarray(jax.jit(lambda model, x: model(x))(subject.model, subject.xs[0]))
        with torch.no_grad():
            actual = self.module(self.xs[0])[0].cpu().numpy()
        self.error = float(np.abs(actual - expected).max() / np.abs(expected).max())
        if not self.error < 1e-3:
            raise AssertionError(f"The twin's logits of {subject.name} differ by {self.error:.1e}.")

    def compiled(self) -> Any:
        """The module by `torch.compile`, which compiles when it is first called."""
        return self.torch.compile(self.module)

    def integrated_gradients(self, module: Any, nodes: int, k: int, **options: Any) -> np.ndarray:
        """At the input, by Gauss-Legendre unless the options say otherwise."""
        return self._attribute(self.methods.IntegratedGradients(module), nodes, k, **options)

    def layer_integrated_gradients(self, at: str, nodes: int, k: int) -> np.ndarray:
        """At a layer."""
        method = self.methods.LayerIntegratedGradients(self.module, self._layer(at))
        return self._attribute(method, nodes, k)

    def layer_conductance(self, at: str, nodes: int, k: int) -> np.ndarray:
        """At a layer."""
        method = self.methods.LayerConductance(self.module, self._layer(at))
        return self._attribute(method, nodes, k)

    def targets_in_turn(self, targets: np.ndarray, nodes: int, k: int) -> np.ndarray:
        """At the input, one call for each target."""
        method = self.methods.IntegratedGradients(self.module)
        found = [self._attribute(method, nodes, k, target=int(target)) for target in targets]
        return np.stack(found)

    def probabilities_of_all(self, subject: Subject, nodes: int, rows: int) -> timing.Step:
        """At the input, for the probability of each example's target, all examples in one call."""
        softmax = self.torch.nn.Sequential(self.module, self.torch.nn.Softmax(-1))
        method = self.methods.IntegratedGradients(softmax)
        xs = self.torch.cat([self._tensor(x) for x in subject.xs])
        targets = self.torch.tensor(np.array(subject.targets)).to(self.device)

        def step(_: int) -> np.ndarray:
            found = method.attribute(xs, target=targets, n_steps=nodes, internal_batch_size=rows)
            return found.detach().cpu().numpy()

        return step

    def probabilities(self, xs: np.ndarray) -> np.ndarray:
        """Of a batch of examples, without gradients."""
        batch = self.torch.from_numpy(xs).to(self.device)
        if self.subject.is_convolutional:
            batch = batch.movedim(-1, 1)
        with self.torch.no_grad():
            return self.torch.softmax(self.module(batch), -1).cpu().numpy()

    def _attribute(self, method: Any, nodes: int, k: int, **options: Any) -> np.ndarray:
        """In the same chunks as attrax: Captum's default, all nodes at once, is slower on CPUs."""
        settings = {
            "target": self.targets[k % 2],
            "method": "gausslegendre",
            "internal_batch_size": self.subject.batch_size,
        }
        found = method.attribute(self.xs[k % 2], n_steps=nodes, **settings | options)
        found = found.detach()[0]
        if self.subject.is_convolutional:
            found = found.movedim(0, -1)
        return found.cpu().numpy()

    def _tensor(self, x: jax.Array) -> Any:
        found = self.torch.from_numpy(np.array(x))[None].to(self.device)
        if self.subject.is_convolutional:
            found = found.movedim(-1, 1)  # a view: in memory channels stay last
        return found

    def _layer(self, at: str) -> Any:
        from . import torch_twin

        return torch_twin.submodule(self.module, at)


def twin(key: str, subject: Subject) -> Any:
    """The network in PyTorch, with the same weights."""
    from . import torch_twin as t

    residuals = networks.residuals
    make: Mapping[str, Callable[[], Any]] = {
        "mlp": lambda: t.Mlp((64, *networks.Mlp.sizes)),
        "small_vit": lambda: t.VisionTransformer(8, 1, 2, 64, 4, 4, 10),
        "transformer": lambda: t.Transformer(256, 8, 8, 100),
        "vit": lambda: t.VisionTransformer(32, 3, 4, 256, 8, 8, 100),
        "efficientnet": t.EfficientNetLite0,
        "resnet18": lambda: t.ResNet(residuals((2, 2, 2, 2)), bottleneck=False),
        "resnet50": lambda: t.ResNet(residuals((3, 4, 6, 3)), bottleneck=True),
        "vit_b16": lambda: t.VisionTransformer(224, 3, 16, 768, 12, 12, networks.CLASSES),
    }
    return t.filled(make[key](), subject.weights)
