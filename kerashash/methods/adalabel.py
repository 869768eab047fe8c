"""AdaLabelHash: codes attracted by codewords that are learned for the labels."""

import keras
import numpy as np
import tensorflow as tf

from kerashash import checks
from kerashash.checks import check_choices, check_integer, from_preset
from kerashash.data import inputs
from kerashash.maths import losses
from kerashash.methods.hash_model import HashModel
from kerashash.methods.layers import LabelCodewords
from kerashash.methods.self_training import (
    is_batched,
    joined,
    labelled_rows,
    most_confident,
    pseudo_labels,
    unlabelled_rows,
)


def presets(bits):
    """The options that the paper sets differently."""
    return {"default": {"margin": bits / 4}, "paper": {"margin": 1.0}}


@keras.saving.register_keras_serializable(package="kerashash")
class AdaLabelHash(HashModel):
    """Adaptive labeling: each label owns a codeword, learned with the network.

    Solves:
        min over the network and z of the mean over positive (i, j) of
        max(0, m - u_i . v_j + max_t u_i . v_t [t not a label of i])
        with u = tanh(F(x)), v = tanh(z)

    All of it by back-propagation; the method has no discrete variable. The hash
    code of an image is sgn(u).

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int, the code length.
        num_classes: int, the number of labels.
        margin: float, m, in units of the inner product of two codes (range
            +-bits). None for the preset's.
        floor: bool; True puts a floor of 0 under the hardest negative score, as
            the equation is printed; False takes it as it is.
        preset: "default": margin ``bits / 4``, which retrieves better, most of all with
            several labels an image; "paper": margin 1, half a bit.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``: 1 has the label, 0 has it not, -1 unknown. `self_train` adds
        images without labels.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = AdaLabelHash(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to
        Hash, CVPR Workshops 2019.

    Differences:
        The loss is the mean over positives instead of the sum.
    """

    unknown_labels = True

    def __init__(
        self,
        backbone,
        bits,
        num_classes,
        margin=None,
        floor=True,
        preset="default",
        **kwargs,
    ):
        check_integer("num_classes", num_classes)
        super().__init__(backbone, bits, num_classes, **kwargs)
        margin = from_preset(presets(bits), preset, margin=margin)["margin"]
        if not margin > 0:
            raise ValueError(f"`margin` must be positive. Received: margin={margin}.")
        self.margin = float(margin)
        self.floor = bool(floor)
        self.codewords = LabelCodewords(num_classes, bits, name="codewords")
        self._scores = tf.function(
            lambda x: self.codewords(self(x, training=False)), reduce_retracing=True
        )
        self.build_if_known()

    def build(self, input_shape):
        super().build(input_shape)
        self.codewords.build((None, self.bits))

    def compute_hash_loss(self, u, labels):
        scores = self.codewords(u)  # (batch, num_classes)
        return losses.codeword_hinge(labels, scores, self.margin, self.floor)  # eq. 1

    def train_step(self, data):
        x, labels = self.unpack(data, index=False)

        # Network step: eq. 1, over the network's weights and the codewords.
        with tf.GradientTape() as tape:
            u = self(x, training=True)  # (batch, bits)
            loss = self.regularized(self.compute_hash_loss(u, labels))
        self.minimize(tape, loss)

        # Discrete step: none, the codes are sgn(u).

        # Metrics.
        return self.report(loss=loss)

    def test_step(self, data):
        x, labels = self.unpack(data, index=False)
        u = self(x, training=False)
        return self.report(loss=self.regularized(self.compute_hash_loss(u, labels)))

    def self_train(
        self,
        labelled,
        unlabelled,
        epochs=10,
        rounds=3,
        first_epochs=None,
        batch_size=128,
        select="quantile",
        quantile=None,
        threshold=0.95,
        rule="single",
        top_k=1,
        bottom_k=None,
        temperature=1.0,
        verbose="auto",
        callbacks=None,
    ):
        """Train on images with and without labels, in rounds.

        The first round trains on the labelled images. Each further one gives all
        unlabelled images labels by the model as it is, keeps the confident ones, and
        trains on with these and the labelled images.

        Args:
            labelled: `tf.data.Dataset` of ``(x, labels)`` or ``(x, {"label"})``,
                batched or not; or a pair of arrays ``(x, y)`` as for `fit`.
            unlabelled: `tf.data.Dataset` of ``(x, {"index"})``, batched or not, of
                known length n, each index from 0 to n - 1 once: the elements may come
                in a new order each time. `kerashash.data.indexed(images)` makes one;
                or an array ``(n, ...)``.
            epochs: int, of each round.
            rounds: int, T, how many rounds use unlabelled images.
            first_epochs: int or None, of the first round; 0 leaves it out, for a model
                already trained; None is `epochs`.
            batch_size: int.
            select: "quantile" keeps in round t the most confident share
                ``quantile * t / T`` of each predicted label; "threshold", the paper's
                rule, keeps what is at least as probable as `threshold`.
            quantile: float in [0, 1], or None: 0.9, or 0.6 for the rule "multi". With
                labels enough for a good model, less does better: 0.3 for CIFAR-10 with
                5,000 labels.
            threshold: float in [0, 1]. How probable the labels of a trained model are
                depends on the margin and the number of labels: look first.
            rule, top_k, bottom_k, temperature: as in
                `kerashash.methods.self_training.pseudo_labels`.
            verbose, callbacks: as in `fit`.

        Returns:
            `keras.callbacks.History` of all rounds in order; ``pseudo_labelled`` is the
            number of unlabelled images in training.

        Raises:
            TypeError, ValueError: if an argument or the data is wrong.

        Example:
            >>> import keras, numpy as np
            >>> model = AdaLabelHash("features", bits=16, num_classes=10)
            >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
            >>> x, y = np.random.rand(60, 64), np.arange(20) % 10
            >>> history = model.self_train((x[:20], y), x[20:], epochs=1, verbose=0)
            >>> history.history["pseudo_labelled"][0]
            0

        Reference:
            The paper, section 4. It leaves thresholds, rounds and k open.
        """
        first_epochs = epochs if first_epochs is None else first_epochs
        check_integer("epochs", epochs)
        check_integer("batch_size", batch_size)
        check_choices({"select": ("quantile", "threshold")}, select=select)
        if quantile is None:
            quantile = 0.9 if rule == "single" else 0.6
        for name, value in (("quantile", quantile), ("threshold", threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {value}.")
        rules = {
            "rule": rule,
            "top_k": top_k,
            "bottom_k": bottom_k,
            "temperature": temperature,
        }
        pseudo_labels(np.zeros((1, self.num_classes)), **rules)  # refuse bad ones now
        labelled = self._labelled_rows(labelled)
        unlabelled, count = self._unlabelled_rows(unlabelled)

        history = keras.callbacks.History()
        history.set_model(self)
        history.epoch, history.history = [], {}
        for number in range(rounds + 1):
            dataset, kept = labelled, 0
            if number:
                _, scores = inputs.collect(
                    unlabelled.batch(batch_size), count, self._scores, verbose=verbose
                )
                labels, confidence, predicted = pseudo_labels(scores, **rules)
                if select == "quantile":
                    share = quantile * number / rounds
                    chosen = most_confident(confidence, predicted, share)
                else:
                    chosen = confidence >= threshold
                kept = int(chosen.sum())
                dataset = joined(labelled, unlabelled, labels, chosen)
            count_of_epochs = epochs if number else first_epochs
            if not count_of_epochs:
                continue
            done = len(history.epoch)
            found = self.fit(
                dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE),
                initial_epoch=done,
                epochs=done + count_of_epochs,
                verbose=verbose,
                callbacks=callbacks,
            )
            history.epoch += found.epoch
            found.history["pseudo_labelled"] = [kept] * len(found.epoch)
            for name, values in found.history.items():
                history.history.setdefault(name, []).extend(values)
        self.history = history
        return history

    def _labelled_rows(self, labelled):
        """A data set of single images and label rows."""
        if isinstance(labelled, tf.data.Dataset):
            checked = labelled if is_batched(labelled) else labelled.batch(1)
            inputs.check_batches(
                checked, self.num_classes, True, False, type(self).__name__
            )
            return labelled_rows(labelled)
        if not isinstance(labelled, tuple | list) or len(labelled) != 2:
            raise TypeError(
                "`labelled` must be a tf.data.Dataset or a pair of arrays (x, y). "
                f"Received type: {type(labelled).__name__}."
            )
        x = checks.check_array(labelled[0], self._batch_shape(), "labelled")
        rows = (x, self.check_labels(labelled[1], len(x), "labelled"))
        return tf.data.Dataset.from_tensor_slices(rows).shuffle(len(x))

    def _unlabelled_rows(self, unlabelled):
        """A data set of single images and their index, and how many there are."""
        if isinstance(unlabelled, tf.data.Dataset):
            return unlabelled_rows(unlabelled)
        x = checks.check_array(unlabelled, self._batch_shape(), "unlabelled")
        index = np.arange(len(x), dtype=np.int32)
        rows = tf.data.Dataset.from_tensor_slices((x, {"index": index}))
        return rows.shuffle(len(x)), len(x)

    def get_config(self):
        config = super().get_config()
        del config["num_train"]
        return {**config, "margin": self.margin, "floor": self.floor}
