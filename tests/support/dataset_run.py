"""One run over a dataset in a process of its own, which can be killed.

    python tests/support/dataset_run.py STORE [--stop-writing N] [--host I N ADDRESS]

Integrated gradients of a small convolutional network for the digits of scikit-learn. Prints a line
before the run and one after it, and as one of several hosts how many examples it has read.
"""

import argparse
import resource

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import attrax
from attrax import datasets, scores
from attrax.quadrature import gauss_legendre

EXAMPLES, SIZE = 1001, 8


def network():
    rng = np.random.default_rng(0)
    shapes = {"first": (3, 3, 1, 8), "second": (3, 3, 8, 8), "last": (128, 10)}
    weights = {
        name: jnp.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), "float32")
        for name, shape in shapes.items()
    }
    return jax.tree_util.Partial(logits, weights)


def logits(weights, image):
    x = image[None]
    for name, stride in (("first", 1), ("second", 2)):
        x = jax.lax.conv_general_dilated(
            x, weights[name], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.gelu(x)
    return x.ravel() @ weights["last"]


def method(model, image, y, key):
    noisy = image + 0.1 * jax.random.normal(key, image.shape)
    attribution = attrax.integrated_gradients(
        lambda x: scores.logit(y)(model(x)), noisy, rule=gauss_legendre(16)
    )
    return {"attribution": attribution, "predicted": model(image).argmax()}


class Counted:
    """Examples that know how often they were read."""

    def __init__(self, values):
        self.values, self.read = values, 0

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        self.read += 1
        return self.values[index]


def data():
    digits = load_digits()
    images = (digits.images[:EXAMPLES, :, :, None] / 16).astype("float32")
    return images, digits.target[:EXAMPLES].astype("int32")


def batches(stop_writing=None):
    images, labels = data()
    for number, batch in enumerate(
        datasets.batches((images, labels), SIZE, beside={"label": labels})
    ):
        if number == stop_writing:  # as on a full disk, a write stops in the middle of a file
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        yield batch


def explain(store, examples, *, model=None, **options):
    return datasets.explain(
        jax.vmap(method, in_axes=(None, 0, 0)),
        network() if model is None else model,
        examples,
        store=store,
        key=jax.random.key(1),
        metadata={"classes": list(range(10))},
        **options,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--stop-writing", type=int)
    parser.add_argument("--host", nargs=3)
    options = parser.parse_args()
    if options.host is not None:
        process, processes, address = options.host
        jax.distributed.initialize(address, int(processes), int(process))
    print("begin", flush=True)
    if options.host is None:
        explain(options.store, batches(options.stop_writing))
    else:  # a sequence, of which a process reads what is its own
        images, labels = data()
        images = Counted(images)
        explain(options.store, datasets.batches((images, labels), SIZE, beside={"label": labels}))
        print(f"{images.read} read", flush=True)
    print("end", flush=True)


if __name__ == "__main__":
    main()
