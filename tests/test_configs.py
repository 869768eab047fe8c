"""Every argument of a constructor outlives `save`, loading in a new process, and
`with_backbone`."""

import inspect
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerashash
from kerashash.backbones import QuantileEncoding, Whitening
from kerashash.backbones.applications import ApplicationPreprocessing
from kerashash.backbones.cnn_f import LocalResponseNormalization
from kerashash.backbones.images import ResizeImages
from kerashash.baselines import (
    CNNH,
    COSDISH,
    DHN,
    DISH,
    DPSH,
    DSDH,
    DTSH,
    ITQ,
    KSH,
    LFH,
    LSH,
    NINH,
    PCAH,
    SDH,
    SH,
    SSDH,
    FastH,
    HashNet,
    SpH,
)
from kerashash.baselines.shallow import ShallowHash
from kerashash.methods import DCDH, DDH, DDHLDL, DSRE, AdaLabelHash, layers

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def network(name, units=8):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)], name=name)


#: A value for each argument that is not its default.
KERAS = {
    "name": "mine",
    "dtype": "mixed_bfloat16",
    "trainable": False,
    "autocast": False,
    "activity_regularizer": keras.regularizers.L2(0.5),
    "image_fit": "crop",
}
HEAD = {
    "hash_activation": None,
    "hash_initializer": keras.initializers.RandomNormal(stddev=0.3, seed=1),
}
TANH = {"hash_activation": "tanh"}  # not the default of all
OPTIONS = {
    AdaLabelHash: {
        "num_classes": 3,
        "margin": 2.5,
        "floor": False,
        "balance_weight": 0.4,
        **HEAD,
    },
    SSDH: {
        "num_classes": 3,
        "classification": "hinge",
        "classification_weight": 2.0,
        "binary_weight": 3.0,
        "balance_weight": 4.0,
        **HEAD,
    },
    DPSH: {"num_classes": 3, "quantization_weight": 2.0, **HEAD, **TANH},
    DHN: {"num_classes": 3, "quantization_weight": 2.0, **HEAD},
    DTSH: {
        "num_classes": 3,
        "margin": 2.0,
        "quantization_weight": 2.0,
        **HEAD,
        **TANH,
    },
    HashNet: {
        "num_classes": 3,
        "scale": 0.5,
        "growth": 0.1,
        "weighted": False,
        "continuous_similarity": True,
        "hash_initializer": HEAD["hash_initializer"],
    },
    NINH: {"num_classes": 3, "margin": 2.0, "units": 4, "epsilon": 0.25},
    CNNH: {"num_classes": 3, "num_train": 20, "sweeps": 2, **HEAD},
    DSDH: {
        "num_classes": 3,
        "num_train": 20,
        "classification_weight": 2.0,
        "quantization_weight": 0.2,
        "classifier_penalty": 0.3,
        **HEAD,
        "hash_activation": "linear",
    },
    DISH: {
        "num_classes": 3,
        "p_features": "penultimate",
        "classification_weight": 2.0,
        "divergence_weight": 0.5,
        "quantization_weight": 0.2,
        "classifier_penalty": 0.3,
        "perplexity": 4.0,
        **HEAD,
        "hash_activation": "linear",
    },
    DCDH: {
        "num_classes": 3,
        "num_train": 20,
        "variant": "S",
        "b_update": "epoch",
        "s_mode": "pm1",
        "focal": "softmax",
        "pair_loss": "average_precision",
        "label_loss_weight": 0.1,
        "fusion_loss_weight": 0.2,
        "focal_weight": 0.3,
        "focal_gamma": 1.5,
        "quantization_weight": 7.0,
        "balance_weight": 0.4,
        "code_start": "labels",
        "code_rate": 3.0,
        "label_units": (5, 4),
        "fusion_units": (6,),
        "detach_fusion": True,
        **HEAD,
    },
    DSRE: {
        "num_classes": 3,
        "num_train": 20,
        "divergence": "kl",
        "p_features": "penultimate",
        "w_update": "ridge",
        "b_update": "dcc",
        "classification_weight": 2.0,
        "divergence_weight": 0.5,
        "quantization_weight": 0.2,
        "classifier_penalty": 0.3,
        "perplexity": 4.0,
        **HEAD,
        "hash_activation": "linear",
    },
    DDH: {
        "num_classes": 3,
        "num_train": 20,
        "similarity": "labels",
        "mode": "batch",
        "neighbours": 3,
        "lists": 2,
        "neighbour_backbone": network("consulted"),
        "pair_weight": "uniform",
        "quantization_weight": 0.2,
        "head_penalty": 0.1,
        "hash_initializer": HEAD["hash_initializer"],
    },
    DDHLDL: {
        "num_classes": 3,
        "num_train": 20,
        "code_epochs": 3,
        "gcn": False,
        "rotation": False,
        "adjacency": "row",
        "target": "cosine",
        "teacher": "train",
        "threshold": 0.25,
        "label_weight": 3.0,
        "dom_iterations": 2,
        "dropout": 0.1,
        "code_units": (5, 4),
        "function_units": (6,),
    },
    LSH: {"num_classes": 3, "center": False, "seed": 2},
    PCAH: {"num_classes": 3},
    ITQ: {"num_classes": 3, "seed": 2},
    SH: {"num_classes": 3},
    SpH: {
        "num_classes": 3,
        "mean_tolerance": 0.2,
        "deviation_tolerance": 0.3,
        "seed": 2,
    },
    SDH: {
        "num_classes": 3,
        "anchors": 7,
        "bandwidth": 0.5,
        "penalty": 2.0,
        "fit_weight": 0.1,
        "seed": 2,
    },
    KSH: {
        "num_classes": 3,
        "anchors": 7,
        "pair_rows": 15,
        "bandwidth": 0.5,
        "seed": 2,
    },
    LFH: {"num_classes": 3, "columns": 5, "beta": 2.0, "penalty": 3.0, "seed": 2},
    COSDISH: {
        "num_classes": 3,
        "columns": 5,
        "turns": 2,
        "balanced": False,
        "penalty": 3.0,
        "seed": 2,
    },
    FastH: {
        "num_classes": 3,
        "pairs": 5,
        "trees": 7,
        "depth": 2,
        "tree_features": 3,
        "seed": 2,
    },
}
SHALLOW = [cls for cls in OPTIONS if issubclass(cls, ShallowHash)]
#: Arguments that a method sets itself.
REFUSED = {
    AdaLabelHash: ("num_train",),
    SSDH: ("num_train",),
    DPSH: ("num_train",),
    DHN: ("num_train",),
    DTSH: ("num_train",),
    HashNet: ("num_train", "hash_activation"),
    NINH: ("num_train", "hash_activation", "hash_initializer", "head"),
    DSDH: (
        "divergence",
        "b_update",
        "w_update",
        "divergence_weight",
        "perplexity",
        "p_features",
    ),
    DISH: ("num_train", "divergence", "b_update", "w_update"),
    DDH: ("hash_activation",),
    DDHLDL: ("hash_activation", "hash_initializer", "head"),
    **dict.fromkeys(
        SHALLOW, ("num_train", "hash_activation", "hash_initializer", "head")
    ),
}


def arguments(cls):
    """The names and defaults of all arguments of a constructor, base classes'
    included."""
    parameters = {}
    for base in (keras.layers.Layer, kerashash.HashModel, cls):
        parameters |= inspect.signature(base.__init__).parameters
    return {
        name: p.default
        for name, p in parameters.items()
        if name not in ("self", "args", "kwargs", *REFUSED.get(cls, ()))
    }


def plain(value):
    """A value as it is in JSON, whatever was made of it."""
    if isinstance(value, keras.layers.Layer):
        return plain(keras.saving.serialize_keras_object(value))
    if isinstance(value, keras.initializers.Initializer | keras.regularizers.L2):
        return plain(keras.saving.serialize_keras_object(value))
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k not in ("build_config", "dtype")}
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def made(cls, **kwargs):
    return cls(network("net"), 4, **OPTIONS[cls] | KERAS | kwargs)


RELOAD = """
import json, sys
import numpy as np
import kerashash

x = np.load("x.npy")
for name in sys.argv[1:]:
    model = kerashash.load_model(f"{name}.keras")
    np.save(f"{name}.npy", model.encode(x, packed=False))
    with open(f"{name}.json", "w") as file:
        json.dump(model.get_config(), file)
"""


@pytest.mark.slow
@pytest.mark.long
def test_every_argument_outlives_saving_and_another_backbone(tmp_path):
    np.save(tmp_path / "x.npy", X)
    models = {cls.__name__: made(cls) for cls in OPTIONS}
    for cls in (AdaLabelHash, SSDH, DCDH, DSRE, DDH):
        head = keras.Sequential(
            [keras.layers.Dense(5), keras.layers.Dense(4, name="last")], name="own"
        )
        models[f"{cls.__name__}-head"] = made(cls, head=head)
    for name, model in models.items():
        if isinstance(model, ShallowHash):  # it encodes with weights that are not 0
            weights = model.hash_head.get_weights()
            model.hash_head.set_weights([np.ones_like(value) for value in weights])
        model.save(tmp_path / f"{name}.keras")
    subprocess.run(
        [sys.executable, "-c", RELOAD, *models], cwd=tmp_path, check=True, timeout=300
    )
    for name, model in models.items():
        cls = type(model)
        expected = OPTIONS[cls] | KERAS | {"bits": 4}
        if name.endswith("-head"):
            expected["head"] = model.hash_head
        moved = model.with_backbone(network("other"))
        loaded = json.loads((tmp_path / f"{name}.json").read_text())
        for config in (model.get_config(), moved.get_config(), loaded):
            assert config["dtype"]["config"]["name"] == "mixed_bfloat16"
            for argument, default in arguments(cls).items():
                if argument in ("backbone", "preset", "dtype"):
                    continue
                if argument == "head" and "head" not in expected:
                    assert config["head"] is None
                    continue
                value = plain(expected[argument])
                assert value != plain(default), argument
                assert plain(config[argument]) == value, argument
        codes = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_array_equal(codes, model.encode(X, packed=False))
        for new, old in zip(
            moved.hash_head.get_weights(), model.hash_head.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(new, old)
        assert moved.hash_head is not model.hash_head


def test_all_layers_are_built_when_the_backbone_knows_its_input(capsys):
    for cls, options in OPTIONS.items():
        more = {"variant": "full"} if cls is DCDH else {}
        model = cls(network("net"), 4, **options | more)
        assert all(layer.built for layer in model._flatten_layers())
        model.summary()
        assert "unbuilt" not in capsys.readouterr().out


def test_the_models_own_layers_have_its_dtype_policy():
    own = {
        DCDH: ("label_net", "fusion", "fusion_net"),
        DDHLDL: ("code_network", "hash_head"),
    }
    for cls, names in own.items():
        options = OPTIONS[cls] | {"dtype": "mixed_bfloat16"}
        options |= {"variant": "full"} if cls is DCDH else {"gcn": True}
        model = cls(network("net"), 4, **options)
        policies = {
            layer.compute_dtype
            for name in names
            for layer in getattr(model, name)._flatten_layers(recursive=True)
            if isinstance(layer, keras.layers.Dense | keras.layers.Dropout)
        }
        # The last layer of each network is float32.
        assert policies == {"bfloat16", "float32"}


@pytest.mark.parametrize(("cls", "names"), REFUSED.items())
def test_arguments_that_a_method_has_not_are_refused(cls, names):
    for name in names:
        with pytest.raises(
            TypeError, match=f"`{cls.__name__}` has no argument `{name}`"
        ):
            made(cls, **{name: 20})


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_flags_are_true_or_false(cls):
    """Of the text "false", Python makes True."""
    for name, default in arguments(cls).items():
        if isinstance(default, bool) and name not in KERAS:
            with pytest.raises(TypeError, match=f"`{name}` must be True or False"):
                made(cls, **{name: "false"})


def test_a_head_that_does_not_fit_is_named():
    with pytest.raises(TypeError, match="`head` must be a keras"):
        made(SSDH, head="dense")
    with pytest.raises(
        ValueError, match=r"`head` must give codes.*bits=4.*\(None, 7\)"
    ):
        made(SSDH, head=keras.layers.Dense(7))


def test_configs_without_the_newer_arguments_mean_what_they_did():
    model = SSDH(network("net"), 4, 3)
    config = model.get_config()
    for name in ("hash_activation", "hash_initializer", "head", "dtype", "trainable"):
        del config[name]
    old = SSDH.from_config(config)
    assert old.hash_head.activation is keras.activations.tanh
    assert old.get_config().keys() == model.get_config().keys()


LAYERS = [
    layers.HashHead(4, activation=None, use_bias=False, name="a", trainable=False),
    layers.LabelCodewords(3, 4, name="b", trainable=False),
    layers.OuterProductFusion(name="c", dtype="bfloat16", trainable=False),
    layers.GraphConvolution(
        3,
        activation="tanh",
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer="l2",
        name="d",
        dtype="float64",
        trainable=False,
    ),
    ResizeImages(32, name="e", trainable=False),
    QuantileEncoding(steps=3, name="f", trainable=False),
    Whitening(components=3, name="i", trainable=False),
    ApplicationPreprocessing("vgg16", name="g", dtype="bfloat16", trainable=False),
    LocalResponseNormalization(name="h", dtype="bfloat16", trainable=False),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_keep_their_arguments(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config
    assert not again.trainable


def test_backbones_keep_what_is_frozen_and_their_dtype():
    backbone = kerashash.backbones.get(
        "efficientnet-lite0", image_size=32, weights=None, dtype="mixed_bfloat16"
    )
    backbone.trainable = False
    backbone.get_layer("stem_conv").trainable = True
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(backbone)))
    loaded = keras.saving.deserialize_keras_object(config)
    assert loaded.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    assert not loaded.trainable
    trainable = [layer.name for layer in loaded.layers if layer.trainable]
    assert trainable == ["stem_conv"]
