import csv

import keras
import numpy as np
import pytest
from conftest import mlp
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kerashash


def test_values_reach_logs_and_tensorboard(digits, tmp_path):
    model = kerashash.AdaLabelHash(mlp(64), bits=16, num_classes=10)
    model.compile(optimizer="adam")
    history = model.fit(
        digits.train.batch(64),
        epochs=4,
        verbose=0,
        callbacks=[
            kerashash.callbacks.RetrievalEvaluation(digits, log_dir=tmp_path, every=2),
            keras.callbacks.TensorBoard(tmp_path),
        ],
    ).history
    assert len(history["mAP@ALL"]) == 3  # epochs 1, 2 and 4
    result = kerashash.evaluate(model, digits)
    assert history["mAP@ALL"][-1] == pytest.approx(result["mAP@ALL"])
    codes = model.encode(digits.database, packed=False)
    balance = np.abs(codes.mean(axis=0)).mean()
    assert history["bit_imbalance"][-1] == pytest.approx(balance)
    u = model.continuous_codes(digits.query)
    error = ((u - np.where(u >= 0, 1, -1)) ** 2).mean()
    assert history["quantization_error"][-1] == pytest.approx(error, rel=1e-5)
    assert 0 < history["bit_flips"][0] < 1

    events = EventAccumulator(str(tmp_path / "retrieval")).Reload()
    assert set(events.Tags()["tensors"]) == {
        "retrieval/mAP@ALL",
        "retrieval/bit_imbalance",
        "retrieval/quantization_error",
        "retrieval/bit_flips",
        "retrieval/precision and recall",
        "retrieval/precision at N",
    }
    assert [e.step for e in events.Tensors("retrieval/mAP@ALL")] == [0, 1, 3]
    train = EventAccumulator(str(tmp_path / "train")).Reload()
    assert "epoch_loss" in train.Tags()["tensors"]


def test_early_stopping_can_watch_retrieval(digits):
    model = kerashash.AdaLabelHash(mlp(64), bits=16, num_classes=10)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(
        digits.train.batch(64),
        epochs=9,
        verbose=0,
        callbacks=[
            kerashash.callbacks.RetrievalEvaluation(digits, at=50),
            keras.callbacks.EarlyStopping("mAP@50", mode="max", patience=1),
        ],
    )
    assert len(history.epoch) == 2
    assert history.history["bit_flips"] == [0.0, 0.0]


def classifier(bits, data):
    model = kerashash.AdaLabelHash(mlp(64, (8,)), bits=bits, num_classes=10)
    model.compile(optimizer=keras.optimizers.SGD(0.05))
    model.fit(data.train.batch(512), verbose=0)
    return model


def test_one_callback_serves_several_models(digits, tmp_path):
    """Bits that flip are counted from a model's own codes, from the first epoch on."""
    callback = kerashash.callbacks.RetrievalEvaluation(digits, every=2)
    for bits in (8, 8, 12):
        model = classifier(bits, digits)
        before = model.encode(digits.database, packed=False)
        log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        model.fit(digits.train.batch(512), verbose=0, callbacks=[callback, log])
        flips = (before != model.encode(digits.database, packed=False)).mean()
        with open(tmp_path / "log.csv") as file:
            (row,) = csv.DictReader(file)
        assert float(row["bit_flips"]) == pytest.approx(flips)
        assert float(row["mAP@ALL"]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` must be at least 1"),
        ({"every": 1.5}, "`every` must be an integer"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"at": 5000}, "`at` must be between 1 and the database size 1497"),
        ({"at": 2.5}, "`at` must be an integer"),
        ({"data": np.zeros(3)}, "`data` must be a RetrievalData.*ndarray"),
    ],
)
def test_bad_arguments_are_named(options, message, digits):
    with pytest.raises((TypeError, ValueError), match=message):
        kerashash.callbacks.RetrievalEvaluation(**{"data": digits, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_dir": None}, "`log_dir` must be a path"),
        ({"log_dir": b"logs"}, "`log_dir` must be a path"),
        ({"data": None}, "`data` must be a RetrievalData"),
        ({"queries": 0}, "`queries` must be at least 1"),
        ({"top": "x"}, "`top` must be an integer"),
        ({"hparams": [1]}, "`values` must be a dict or None"),
    ],
)
def test_bad_arguments_of_monitor_are_named(options, message, digits):
    with pytest.raises((TypeError, ValueError), match=message):
        kerashash.callbacks.monitor(**{"data": digits, "log_dir": "logs", **options})


def test_models_and_data_that_do_not_fit_are_named_before_training(digits):
    callback = kerashash.callbacks.RetrievalEvaluation(digits)
    x, y = np.zeros((4, 6), np.float32), np.arange(4) % 2
    narrow = kerashash.AdaLabelHash(mlp(6, (8,)), bits=8, num_classes=2)
    narrow.compile("sgd")
    before = narrow.get_weights()
    with pytest.raises(
        ValueError, match=r"`data` must yield batches of shape \(None, 6\)"
    ):
        narrow.fit(x, y, verbose=0, callbacks=[callback])
    for old, new in zip(before, narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    plain = mlp(6, (2,))
    plain.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"measures a HashModel.*Sequential"):
        plain.fit(x, np.eye(2)[y], verbose=0, callbacks=[callback])
