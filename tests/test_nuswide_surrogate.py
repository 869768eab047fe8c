"""The script that trains surrogates of NUS-WIDE, on data made up here."""

import importlib.util
import pathlib

import numpy as np
import pytest

from kerashash import codes, recipes, zoo

SCRIPT = pathlib.Path(__file__).parents[1] / "scripts" / "nuswide_surrogate.py"
TRAINING = """
[backbone]
encoding = "standardized"
hidden_units = 8
dropout = 0.1

[model]
bits = 12
{options}

[training]
seed = 0
epochs = 2
batch_size = 16
learning_rate = 1e-3
"""
OPTIONS = {
    "dcdh": """pair_loss = "average_precision"
quantization_weight = 1.0
balance_weight = 0.5
label_units = [6, 6]
fusion_units = [6]""",
    "adalabel": "margin = 3.0",
}


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("nuswide_surrogate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LABEL_ROWS", 60)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dcdh", "adalabel"])
def test_codes_of_concepts_are_those_of_the_labels_alone(
    method, script, rng, tmp_path, monkeypatch
):
    name = f"{method}-nuswide-48"
    entry = zoo.recipe_path(name).read_text().split("[backbone]")[0]
    file = tmp_path / "recipe.toml"
    text = entry.replace(name, f"{method}-nuswide-12")
    file.write_text(text + TRAINING.format(options=OPTIONS[method]))
    recipe = recipes.read(file)
    labels = (rng.random((90, 21)) < 0.2).astype(np.uint8)
    labels[:, 0] |= ~labels.any(axis=1)
    mapped = (rng.random((50, 21)) < 0.3).astype(np.float32)
    mapped[:, 13:] = -1
    x = rng.normal(size=(50, 10)).astype(np.float32)
    rows = np.arange(50)
    splits = {"train": rows[10:], "query": rows[:10], "database": rows[10:]}
    trained = []
    make = script.METHODS[method]

    def watched(*arguments):
        model, *others = make(*arguments)
        frozen = model.label_net if method == "dcdh" else model.codewords
        trained.append((frozen, frozen.get_weights(), model.hash_head.get_weights()))
        return model, *others

    monkeypatch.setitem(script.METHODS, method, watched)
    model, _, arrays, concept_codes = script.train(
        recipe, labels, x, mapped, splits, seed=0
    )
    [(frozen, before, head)] = trained
    for old, new in zip(before, frozen.get_weights(), strict=True):
        # What is stored is rounded after the training.
        np.testing.assert_array_equal(old.astype(np.float16), new.astype(np.float16))
    assert not np.array_equal(model.hash_head.get_weights()[0], head[0])
    assert concept_codes.shape == (21, 12)
    if method == "dcdh":
        u = model.label_net(np.eye(21, dtype=np.float32)).numpy()
        clear = np.abs(u) > 1e-2
        assert clear.mean() > 0.5
        np.testing.assert_array_equal((u > 0)[clear], (concept_codes > 0)[clear])
        assert codes.unpack(arrays["label_row_codes"], 12).shape == (
            len(arrays["label_row_labels"]),
            12,
        )
    else:
        np.testing.assert_array_equal(concept_codes, model.codewords.hash_codes())
    assert arrays["query_labels"].min() == 0
    nearest = script.nearest_concepts([f"c{i:02}" for i in range(21)], concept_codes)
    assert all(len(three) == 3 and name not in three for name, three in nearest.items())
