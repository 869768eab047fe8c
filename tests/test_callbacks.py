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
    assert len(history["mAP@ALL"]) == 2  # epochs 2 and 4
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
    }
    assert [e.step for e in events.Tensors("retrieval/mAP@ALL")] == [1, 3]
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
    assert history.history["bit_flips"] == [0.0]


def test_bad_arguments_are_named(digits):
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        kerashash.callbacks.RetrievalEvaluation(digits, every=0)
