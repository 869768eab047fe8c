"""DSDH: similar pairs, and codes of the training images that a classifier explains."""

from typing import Any

import keras

from kerashash.checks import check_integer, refuse_arguments
from kerashash.methods.dsre import DSRE

# Arguments of DSRE that are fixed, or have no meaning here.
_REFUSED = (
    "divergence",
    "b_update",
    "w_update",
    "divergence_weight",
    "perplexity",
    "p_features",
)


@keras.saving.register_keras_serializable(package="kerashash")
class DSDH(DSRE):
    """Deep supervised discrete hashing.

    Solves:
        min  J_1 + alpha J_2 + eta J_q + lambda ||W||_F^2
        J_1 = mean over pairs of log(1 + exp(t_ij)) - s_ij t_ij,  t_ij = u_i . u_j / 2
        J_2 = mean over images of ||y_i - W^T b_i||^2
        J_q = mean over images and bits of (u - b)^2

    over the network, which gives u, the classifier W, and the codes b in {-1, +1} of
    the training images. s_ij is 1 if images i and j share a label and 0 if not. At the
    end of each epoch W is the solution of ridge regression, and B, bit by bit, that of
    discrete cyclic coordinate descent. It is `kerashash.DSRE` with ``divergence=None,
    b_update="dcc", w_update="ridge"``.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        num_train: int; the number of training rows.
        classification_weight: float; alpha.
        quantization_weight: float; eta.
        classifier_penalty: float; lambda.
        hash_activation: str or None; "tanh" or "linear", the activation of the hash
            layer. None takes the preset's.
        preset: str; "default" has codes in (-1, 1), by tanh; "paper" has a linear hash
            layer.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"label": labels, "index": index})`` with label rows ``(batch,
        num_classes)`` and the row numbers ``(batch,)`` of the images; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DSDH(net, bits=16, num_classes=10, num_train=32)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        Q. Li, Z. Sun, R. He, T. Tan, Deep Supervised Discrete Hashing, NIPS 2017.

    Differences:
        Terms are means over images and pairs, where the paper sums: its weights mean
        something else. Pairs are those of a batch.
    """

    reported = ("loss", "pair_loss", "class_loss", "quantization_loss")
    networks = ("backbone",)

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        num_train: int,
        classification_weight: float = 1.0,
        quantization_weight: float = 0.1,
        classifier_penalty: float = 1e-3,
        hash_activation: str | None = None,
        preset: str = "default",
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DSDH", kwargs, *_REFUSED)
        check_integer("num_train", num_train)
        super().__init__(
            backbone,
            bits,
            num_classes,
            num_train,
            divergence=None,
            b_update="dcc",
            w_update="ridge",
            classification_weight=classification_weight,
            quantization_weight=quantization_weight,
            classifier_penalty=classifier_penalty,
            hash_activation=hash_activation,
            preset=preset,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {key: config[key] for key in config if key not in _REFUSED}
