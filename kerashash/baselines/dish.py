"""DISH: similar pairs, classes, and the neighbourhoods of the features."""

from typing import Any

import keras

from kerashash.checks import refuse_arguments
from kerashash.methods.dsre import DSRE

# Arguments of DSRE that are fixed; and no code of a training image is kept.
_REFUSED = ("divergence", "b_update", "w_update", "num_train")


@keras.saving.register_keras_serializable(package="kerashash")
class DISH(DSRE):
    """Deep supervised hashing with information loss, the predecessor of DSRE.

    Solves:
        min  J_1 + alpha J_2 + beta J_3 + eta J_q + lambda ||W||_F^2
        J_3 = KL(P || Q), the relative entropy of P, the neighbour probabilities of the
              features, from Q, those of the continuous codes

    over the network and the classifier W, with the other terms of `kerashash.DSRE`. It
    is `kerashash.DSRE` with ``divergence="kl"``.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        p_features: str, `keras.Model` or None; the features from which P is computed:
            "input"; "penultimate" for those of the backbone; or a model of the inputs,
            which is not trained. None is "input" for vectors and "penultimate" for
            images.
        classification_weight: float; alpha.
        divergence_weight: float; beta.
        quantization_weight: float; eta.
        classifier_penalty: float; lambda.
        perplexity: float; roughly the number of neighbours that count in P. It is
            limited to a third of the batch.
        hash_activation: str or None; "tanh" or "linear", the activation of the hash
            layer. None takes the preset's.
        preset: str; "default" has codes in (-1, 1), by tanh; "paper" has a linear hash
            layer.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DISH(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        X. Zhang, L. Zhou, X. Bai, E. Hancock, Deep Supervised Hashing with Information
        Loss, S+SSPR 2018, as the paper of DSRE describes it and names it in its tables.

    Differences:
        Those of `kerashash.DSRE`.
    """

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        p_features: str | keras.Model | None = None,
        classification_weight: float = 1.0,
        divergence_weight: float = 1.0,
        quantization_weight: float = 0.1,
        classifier_penalty: float = 1e-3,
        perplexity: float = 30.0,
        hash_activation: str | None = None,
        preset: str = "default",
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DISH", kwargs, *_REFUSED)
        super().__init__(
            backbone,
            bits,
            num_classes,
            divergence="kl",
            b_update="sign",
            w_update="bp",
            p_features=p_features,
            classification_weight=classification_weight,
            divergence_weight=divergence_weight,
            quantization_weight=quantization_weight,
            classifier_penalty=classifier_penalty,
            perplexity=perplexity,
            hash_activation=hash_activation,
            preset=preset,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {key: config[key] for key in config if key not in _REFUSED}
