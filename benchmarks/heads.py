"""Compare the training of a head on cached features with the same loop in PyTorch.

    python -m benchmarks heads [--rows 20000] [--turns 5]

Features have 1,280 columns; the head is the hash layer and what the method learns
beside it. The loop by hand has the same losses, optimizer, batches and numbers of
steps, and starts from the same weights; before anything is timed, both train on the
same batches in the same order, and their losses must agree. Both then train for ten
epochs in alternating turns, in one process. Times are those of whole calls, from arrays
to weights: `fit` reads and checks the arrays, and traces no function again. PyTorch
runs on one thread and on all cores; the ratios are to the faster. kerashash runs as
compiled by default, and with `compile(..., steps_per_execution=32)`, as `kerashash
train` and `compare` compile, which gives the same losses. Beside it, Keras fits its own
model of the same hash layer, with the mean squared error to fixed codes: what the steps
of any `fit` cost. Medians are written to benchmarks/results/heads.csv.

PyTorch is needed by this benchmark alone: `pip install torch`.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
from torch.nn import functional

import kerashash
from benchmarks.table import Table
from benchmarks.turns import take_turns

COLUMNS, CLASSES, BITS, BATCH, RATE, EPOCHS = 1280, 21, 48, 128, 1e-3, 10
# Steps of training that TensorFlow does in one call, besides 1, the default.
STEPS = 32
# Two programs of float32 round differently, and training makes the differences grow.
TOLERANCE = 1e-3


class AdaLabelHash(torch.nn.Module):
    """The hash layer and the codewords, with eq. 1 of the paper."""

    def __init__(self, model):
        super().__init__()
        self.head = hash_layer(model)
        self.codewords = parameter(model.codewords.embedding.embeddings)
        self.margin = model.margin

    def forward(self, x, labels):
        u = torch.tanh(self.head(x))
        scores = u @ torch.tanh(self.codewords).T
        hardest = scores.masked_fill(labels != 0, -1e9).amax(dim=1, keepdim=True)
        hinge = torch.relu(self.margin - scores + hardest.clamp(min=0))
        positive = labels == 1
        return (hinge * positive).sum() / positive.sum().clamp(min=1)


class DSRE(torch.nn.Module):
    """The hash layer and the classifier, with eq. 11 of the paper."""

    def __init__(self, model):
        super().__init__()
        self.head = hash_layer(model)
        self.classifier = parameter(model.classifier.kernel)
        self.options = model.options

    def forward(self, x, labels):
        options = self.options
        u = torch.tanh(self.head(x))
        codes = torch.where(u.detach() >= 0, 1.0, -1.0)
        n = len(u)
        off_diagonal = 1.0 - torch.eye(n)
        similar = (labels @ labels.T > 0).float()
        t = u @ u.T / 2
        pairs = ((functional.softplus(t) - similar * t) * off_diagonal).sum()
        error = ((labels - u @ self.classifier) ** 2).sum(dim=1).mean()
        with torch.no_grad():
            p = gaussian_affinity(x, options["perplexity"], off_diagonal)
        q = off_diagonal / (1.0 + squared_distances(u))
        q = q / q.sum()
        middle = (p + q) / 2
        divergence = (relative_entropy(p, middle) + relative_entropy(q, middle)) / 2
        return (
            pairs / (n * (n - 1.0))
            + options["classification_weight"] * error
            + options["quantization_weight"] * ((u - codes) ** 2).mean()
            + options["classifier_penalty"] * (self.classifier**2).sum()
            + options["divergence_weight"] * divergence
        )


def squared_distances(x):
    squares = (x * x).sum(dim=1)
    return torch.relu(squares[:, None] + squares[None] - 2.0 * (x @ x.T))


def relative_entropy(p, q):
    return (p * (torch.log(p + 1e-12) - torch.log(q + 1e-12))).sum()


def gaussian_affinity(x, perplexity, off_diagonal):
    """Eq. 6, each row's width found by bisection in 50 steps."""
    n = len(x)
    distance = squared_distances(x)
    nearest = (distance + 1e30 * (1.0 - off_diagonal)).amin(dim=1, keepdim=True)
    distance = (distance - nearest) * off_diagonal
    target = np.log(max(min(perplexity, (n - 1) / 3), 1.0))
    precision = 1.0 / (distance.sum(dim=1, keepdim=True) / (n - 1)).clamp(min=1e-12)
    low, high = torch.zeros_like(precision), torch.full_like(precision, torch.inf)
    for _ in range(50):
        p = torch.exp(-distance * precision) * off_diagonal
        total = p.sum(dim=1, keepdim=True)
        p = p / total
        mean = (p * distance).sum(dim=1, keepdim=True)
        too_flat = torch.log(total.clamp(min=1e-30)) + precision * mean > target
        low = torch.where(too_flat, precision, low)
        high = torch.where(too_flat, high, precision)
        halved = torch.where(high.isinf(), 2.0 * precision, (low + high) / 2)
        precision = halved.clamp(max=1e12)
    return (p + p.T) / (2.0 * n)


def hash_layer(model):
    layer = torch.nn.Linear(COLUMNS, BITS)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(model.hash_head.kernel.numpy().T))
        layer.bias.copy_(torch.tensor(model.hash_head.bias.numpy()))
    return layer


def parameter(variable):
    return torch.nn.Parameter(torch.tensor(variable.numpy()))


def epoch(network, optimizer, x, labels, shuffle):
    """Train for an epoch by hand; returns the mean loss of the batches."""
    x, labels = torch.from_numpy(x), torch.from_numpy(labels)
    order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
    losses = []
    for rows in order.split(BATCH):
        optimizer.zero_grad()
        loss = network(x[rows], labels[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def compare(name, by_hand, rows, turns):
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    labels = (rng.random((rows, CLASSES)) < 0.1).astype(np.float32)
    # Features from which the labels can be learned, of the size of a network's.
    x = labels @ rng.random((CLASSES, COLUMNS)) + rng.random((rows, COLUMNS))
    x = (x / x.mean() / 3).astype(np.float32)
    models = {}
    for steps in (1, STEPS):
        keras.utils.set_random_seed(0)
        model = getattr(kerashash, name)("features", BITS, num_classes=CLASSES)
        model.build((None, COLUMNS))
        # PyTorch's default epsilon.
        adam = keras.optimizers.Adam(RATE, epsilon=1e-8)
        model.compile(adam, steps_per_execution=steps)
        models[steps] = model
    network = by_hand(models[1])
    optimizer = torch.optim.Adam(network.parameters(), RATE)

    def ours(shuffle=True, steps=1, epochs=EPOCHS):
        options = {"batch_size": BATCH, "verbose": 0, "shuffle": shuffle}
        history = models[steps].fit(x, labels, epochs=epochs, **options)
        return history.history["loss"][-1]

    codes = rng.choice(np.array([-1, 1], np.float32), (rows, BITS))
    plain = keras.Sequential([keras.layers.Dense(BITS, "tanh")])
    plain.compile(keras.optimizers.Adam(RATE), "mse")

    def theirs(shuffle=True, threads=1, epochs=EPOCHS):
        torch.set_num_threads(threads)
        losses = [epoch(network, optimizer, x, labels, shuffle) for _ in range(epochs)]
        return losses[-1]

    for _ in range(2):
        loss, loss_by_hand = (call(shuffle=False, epochs=1) for call in (ours, theirs))
        print(name, "loss", loss, loss_by_hand, flush=True)
        assert loss == ours(shuffle=False, steps=STEPS, epochs=1)
        assert abs(loss / loss_by_hand - 1) < TOLERANCE, (loss, loss_by_hand)
    threads = os.cpu_count() or 1
    calls = {
        "kerashash": ours,
        "grouped": lambda: ours(steps=STEPS),
        "plain": lambda: plain.fit(
            x, codes, batch_size=BATCH, epochs=EPOCHS, verbose=0
        ),
        "one": theirs,
        "all": lambda: theirs(threads=threads),
    }
    calls["plain"]()  # traces
    times = take_turns(calls, turns, pause=0.5)
    faster = min(("one", "all"), key=times.median)
    Table("heads.csv", "method", "rows", "isa").add(
        {
            "method": name,
            "rows": rows,
            "columns": COLUMNS,
            "bits": BITS,
            "batch_size": BATCH,
            "epochs": EPOCHS,
            "kerashash_s": round(times.median("kerashash"), 2),
            f"kerashash_{STEPS}_steps_s": round(times.median("grouped"), 2),
            "keras_s": round(times.median("plain"), 2),
            "pytorch_one_thread_s": round(times.median("one"), 2),
            "pytorch_all_threads_s": round(times.median("all"), 2),
            "kerashash / pytorch": round(times.ratio("kerashash", faster), 2),
            f"kerashash_{STEPS}_steps / pytorch": round(
                times.ratio("grouped", faster), 2
            ),
            "keras / pytorch": round(times.ratio("plain", faster), 2),
            "loss": round(loss, 5),
            "loss by hand": round(loss_by_hand, 5),
            "turns": turns,
        }
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    for by_hand in (AdaLabelHash, DSRE):
        compare(by_hand.__name__, by_hand, arguments.rows, arguments.turns)


if __name__ == "__main__":
    main()
