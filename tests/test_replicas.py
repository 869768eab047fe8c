"""Training on several devices gives what training on one device gives.

Devices have to be set up before TensorFlow starts, and processes have to be several: so
this file is also the program of other processes, which train the same models and write
what they have learned to files. `python tests/test_replicas.py compare .` trains more
of them than the tests have time for, and prints how far two devices are from one.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash.baselines import CNNH, NINH, SSDH, HashNet
from kerashash.methods import DCDH, DDH, DDHLDL, DSRE, AdaLabelHash, replicas
from kerashash.methods.hash_model import HashModel
from kerashash.recipes import fitting

ROWS, WIDTH, CLASSES, BATCH, EPOCHS = 17, 6, 3, 8, 2
DSDH = {"b_update": "dcc", "w_update": "ridge"}
UNITS = {"label_units": (), "fusion_units": ()}  # without dropout


def network():
    return keras.Sequential(
        [
            keras.Input((WIDTH,)),
            keras.layers.Dense(5, "relu", kernel_regularizer="l2"),
        ]
    )


def frozen():
    net = network()
    net.trainable = False
    return net


def normalized():
    layer = keras.layers.BatchNormalization(momentum=0.5, synchronized=True)
    return keras.Sequential([*network().layers, layer])


CASES = {
    "adalabel": lambda: AdaLabelHash(frozen(), 8, CLASSES),
    "dsre": lambda: DSRE(network(), 8, CLASSES, ROWS, **DSDH),
    "ddh": lambda: DDH(network(), 8, ROWS, neighbours=3, lists=2),
    "dcdh": lambda: DCDH(network(), 8, CLASSES, ROWS, "S", **UNITS),
    "ssdh": lambda: SSDH(normalized(), 8, CLASSES),
    "ranked": lambda: DCDH(
        network(), 8, CLASSES, ROWS, pair_loss="average_precision", **UNITS
    ),
    "ninh": lambda: NINH(network(), 8, CLASSES, units=3),
    "hashnet": lambda: HashNet(network(), 8, CLASSES),
    "cnnh": lambda: CNNH(network(), 8, CLASSES, ROWS),
    "full": lambda: DCDH(network(), 8, CLASSES, ROWS, **UNITS),
    "epoch": lambda: DCDH(network(), 8, CLASSES, ROWS, b_update="epoch", **UNITS),
    "sign": lambda: DSRE(network(), 8, CLASSES, ROWS, p_features="input"),
    "batch": lambda: DDH(network(), 8, ROWS, neighbours=3, lists=2, mode="batch"),
    "labels": lambda: DDH(network(), 8, ROWS, CLASSES, similarity="labels"),
    # Its rotation is not one of several that are equally good.
    "ldl": lambda: DDHLDL(
        "features",
        8,
        CLASSES,
        ROWS,
        code_epochs=1,
        rotation=False,
        code_units=(6,),
        function_units=(6,),
        dropout=0.0,
    ),
}
TESTED = ["adalabel", "dsre", "ddh", "dcdh", "ssdh"]
#: Arguments of `fit`, beside those that all have.
ARGUMENTS = {"adalabel": {"cache_features": True}}
OPTIMIZERS = {
    "adalabel": lambda: keras.optimizers.Adam(0.02, global_clipnorm=0.01),
    "dsre": lambda: keras.optimizers.AdamW(0.02),
    "ddh": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
}


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return x, np.arange(ROWS) % CLASSES, rng.dirichlet(np.ones(CLASSES), ROWS)


def compiled(name, strategy=None):
    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = CASES[name]()
        optimizer = OPTIMIZERS.get(name, lambda: keras.optimizers.Adam(0.02))()
        # A graph of so few steps takes longer to make than to use.
        model.compile(optimizer, run_eagerly=strategy is None)
    return model


def trained(model, name, epochs=EPOCHS, **kwargs):
    x, classes, distributions = rows()
    labels = distributions if name == "ldl" else classes
    return model.fit(
        x,
        labels,
        batch_size=BATCH,
        epochs=epochs,
        **{"verbose": 0, "shuffle": False, **ARGUMENTS.get(name, {}), **kwargs},
    ).history


def learned(model, history):
    """What is compared: weights by number, and the logs."""
    arrays = {f"weight {i}": v.numpy() for i, v in enumerate(model.variables)}
    return arrays | {f"log {name}": np.array(v) for name, v in history.items()}


def assert_same(one, several):
    assert one.keys() == {*several}
    for name, values in one.items():
        np.testing.assert_allclose(
            several[name], values, rtol=2e-5, atol=2e-6, err_msg=name
        )


# ------------------------------------------------------------- programs of processes


def spread(model):
    """The greatest difference between the copies of what the devices keep."""
    strategy = model.distribute_strategy
    parts = [*model.variables]
    for held in ("rows", "bank", "shared_codes"):
        parts += [*vars(getattr(model, held, None) or tf.Module()).values()]
    values = [getattr(part, "value", part) for part in parts]
    mirrored = [v for v in values if isinstance(v, tf.distribute.DistributedValues)]
    assert len(mirrored) >= len(model.variables)
    return max(
        float(np.ptp([v.numpy().astype(float) for v in copies], axis=0).max())
        for copies in map(strategy.experimental_local_results, mirrored)
    )


def two_devices():
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def compare(folder, *names):
    """Print how far two devices are from one, in all cases."""
    strategy = two_devices()
    for name in names or CASES:
        one = compiled(name)
        expected = learned(one, trained(one, name))
        two = compiled(name, strategy)
        received = learned(two, trained(two, name))
        assert_same(expected, received)
        far = max(np.abs(v - received[k] * 1.0).max() for k, v in expected.items())
        print(f"{name}: {far:.1e} from one device, {spread(two):.1e} between copies")


def mirrored(folder, *names):
    strategy = two_devices()
    spreads = {}
    for name in names:
        path = folder / f"{name}.keras"
        if name == "ddh" and path.exists():  # half trained, on one device
            with strategy.scope():
                model = kerashash.load_model(path)
            history = trained(model, name, initial_epoch=EPOCHS // 2)
        else:
            model = compiled(name, strategy)
            history = trained(model, name, callbacks=[Saving(folder, name)])
        np.savez(folder / f"{name}.npz", **learned(model, history))
        spreads[name] = spread(model)
        if name == "adalabel":
            spreads["evaluated"] = evaluated(model)
    with strategy.scope():
        spreads["steps of a recipe"] = steps_of_a_recipe()
    (folder / "spreads.json").write_text(json.dumps(spreads))
    (folder / "refusals.json").write_text(json.dumps(refusals(strategy)))


class Saving(keras.callbacks.Callback):
    """Saves the half trained model."""

    def __init__(self, folder, name):
        super().__init__()
        self.path = folder / f"half-{name}.keras"

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == EPOCHS // 2:
            self.model.save(self.path)


def evaluated(model):
    x, classes, _ = rows()
    return model.evaluate(x, classes, BATCH, verbose=0, return_dict=True)["loss"]


def steps_of_a_recipe():
    """Trains as recipes do, which group the steps where there is one device."""
    x, classes, _ = rows()
    model = AdaLabelHash(network(), 8, CLASSES)
    options = {"epochs": 1, "batch_size": BATCH, "learning_rate": 0.01}
    fitting.fit_vectors(model, x, np.eye(CLASSES)[classes], **options)
    return int(model.optimizer.iterations.numpy())


class Alone(HashModel):
    """A method that knows nothing of other devices."""


def refusals(strategy):
    """What `fit` says of what it does not do on several devices."""
    x, classes, _ = rows()
    outside, late = network(), keras.optimizers.Adam()
    plain = keras.layers.BatchNormalization

    def ada(net=None, optimizer="adam", **kwargs):
        model = AdaLabelHash(net or network(), 8, CLASSES)
        model.compile(optimizer, **kwargs)
        return model

    def alone():
        model = Alone(network(), 8, CLASSES)
        model.compile("adam")
        return model

    adam = keras.optimizers.Adam
    cases = {
        "method": alone,
        "network": lambda: ada(outside),
        "optimizer": lambda: ada(optimizer=late),
        "scaled": lambda: ada(optimizer=keras.optimizers.LossScaleOptimizer(adam())),
        "accumulated": lambda: ada(optimizer=adam(gradient_accumulation_steps=2)),
        "steps": lambda: ada(steps_per_execution=2),
        "statistics": lambda: ada(keras.Sequential([*network().layers, plain()])),
        "unbuilt": lambda: ada("features"),
    }
    said = {}
    for name, make in cases.items():
        with strategy.scope():
            model = make()
        data = iter([(x, classes)]) if name == "unbuilt" else (x, classes)
        said[name] = refusal(model, data)
    with tf.distribute.experimental.CentralStorageStrategy(["CPU:0"]).scope():
        said["strategy"] = refusal(ada(), (x, classes))
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        said["one"] = refusal(ada(), (x, classes))
    model = ada()
    with strategy.scope():
        said["fit in scope"] = refusal(model, (x, classes))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ada(jit_compile=True)
    said["compiled"] = str(caught[0].message) if caught else "nothing"
    return said


def refusal(model, data):
    try:
        if isinstance(data, tuple):
            model.fit(*data, batch_size=BATCH, verbose=0)
        else:
            model.fit(data, verbose=0)
    except ValueError as error:
        return str(error)
    return "nothing"


def worker(folder, name):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    number = strategy.cluster_resolver.task_id
    x, _, _ = rows()
    model = compiled(name, strategy)
    backup = kerashash.callbacks.Backup(folder / "backup", keep=True)
    history = trained(model, name, callbacks=[backup])
    np.savez(folder / f"{number}.npz", **learned(model, history))
    # The backup of all epochs: there is nothing to train.
    restored = compiled(name, strategy)
    trained(restored, name, callbacks=[backup])
    said = {
        "restored": all(
            np.array_equal(v.numpy(), w.numpy())
            for v, w in zip(model.variables, restored.variables, strict=True)
        )
    }
    index = np.arange(ROWS)
    batches = tf.data.Dataset.from_tensor_slices((x, {"index": index}))
    shuffled = batches.shuffle(ROWS, seed=number).batch(BATCH)
    said["order"] = refusal(model, shuffled)
    np.random.seed(number)  # and arrays are shuffled in one order all the same
    shuffled = replicas.shuffled(strategy, x, {"index": index}, BATCH)
    said["shuffled"] = [i for _, y in shuffled for i in y["index"].numpy().tolist()]
    if number:
        model.hash_head.bias.assign(model.hash_head.bias + 1.0)
    said["weights"] = refusal(model, (x, None))
    (folder / f"said-{number}.json").write_text(json.dumps(said))


# ------------------------------------------------------------------------------ tests


def run(task, folder, names, **environment):
    return subprocess.Popen(
        [sys.executable, __file__, task, str(folder), *names],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    for process in processes:
        try:
            text, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == 0, text[-3000:]


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """A folder with what two devices have learned."""
    folder = tmp_path_factory.mktemp("devices")
    model = compiled("ddh")
    trained(model, "ddh", EPOCHS // 2)
    model.save(folder / "ddh.keras")
    finish(run("mirrored", folder, TESTED))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_two_devices_learn_what_one_learns(devices, name):
    model = compiled(name)
    history = trained(model, name)
    if name == "ddh":  # the devices went on from a file of half of the epochs
        history = {key: values[EPOCHS // 2 :] for key, values in history.items()}
    with np.load(devices / f"{name}.npz") as arrays:
        assert_same(learned(model, history), dict(arrays))


@pytest.mark.slow
def test_copies_on_two_devices_stay_the_same(devices):
    spreads = json.loads((devices / "spreads.json").read_text())
    assert {name: spreads[name] for name in TESTED} == dict.fromkeys(TESTED, 0.0)


@pytest.mark.slow
def test_two_devices_evaluate_what_one_evaluates(devices):
    spreads = json.loads((devices / "spreads.json").read_text())
    model = compiled("adalabel")
    trained(model, "adalabel")
    assert spreads["evaluated"] == pytest.approx(evaluated(model), rel=1e-5)


@pytest.mark.slow
def test_recipes_train_on_two_devices(devices):
    spreads = json.loads((devices / "spreads.json").read_text())
    assert spreads["steps of a recipe"] == -(-ROWS // BATCH)


@pytest.mark.slow
def test_one_device_goes_on_from_a_file_of_two(devices):
    model = kerashash.load_model(devices / "half-dcdh.keras")
    trained(model, "dcdh", initial_epoch=EPOCHS // 2)
    with np.load(devices / "dcdh.npz") as arrays:
        for number, variable in enumerate(model.variables):
            np.testing.assert_allclose(
                variable.numpy(), arrays[f"weight {number}"], rtol=2e-5, atol=2e-6
            )


@pytest.mark.slow
def test_what_several_devices_do_not_do_is_refused_by_name(devices):
    said = json.loads((devices / "refusals.json").read_text())
    starts = {
        "method": "`Alone` trains on one device: its class does not say `supports_",
        "network": "All networks of a `AdaLabelHash` must be made in the scope",
        "optimizer": "`optimizer` must be made in the scope of the model's strategy",
        "scaled": "`optimizer` must not scale the loss on several devices",
        "accumulated": "`gradient_accumulation_steps` of the optimizer must be None",
        "steps": "`steps_per_execution` must be 1 on several devices. Received: 2.",
        "statistics": "`x` must have batches with a row for each of the 2 devices",
        "unbuilt": "The model must be built before `fit` on several devices",
        "strategy": "`fit` trains under MirroredStrategy and MultiWorkerMirroredStrat",
        "fit in scope": "All networks of a `AdaLabelHash` must be made in the scope",
        "one": "nothing",
        "compiled": "Model doesn't support `jit_compile=True`.",
    }
    for name, start in starts.items():
        assert said.pop(name).startswith(start)
    assert not said


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_learn_what_one_learns(tmp_path):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    finish(
        *(
            run(
                "worker",
                tmp_path,
                ["ddh"],
                TF_CONFIG=json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": number},
                    }
                ),
            )
            for number in range(2)
        )
    )
    said = [json.loads((tmp_path / f"said-{n}.json").read_text()) for n in range(2)]
    assert said[0] == said[1]
    assert said[0]["restored"]
    assert said[0]["order"].startswith("`x` must give the same rows in the same order")
    assert said[0]["weights"].startswith("The model must have the same weights, state")
    assert sorted(said[0]["shuffled"]) == [*range(ROWS)]
    assert said[0]["shuffled"] != [*range(ROWS)]
    model = compiled("ddh")
    expected = learned(model, trained(model, "ddh"))
    for number in range(2):
        with np.load(tmp_path / f"{number}.npz") as arrays:
            assert_same(expected, dict(arrays))


if __name__ == "__main__":
    task, path, *names = sys.argv[1:]
    tasks = {"mirrored": mirrored, "worker": worker, "compare": compare}
    tasks[task](pathlib.Path(path), *names)
