"""What a model's files hold beside its weights, so that training goes on exactly."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

__all__ = ["TrainingState", "random_states"]

Arrays = dict[str, npt.NDArray[Any]]

# The name of the array with the states of random generators, unlike any method's.
_SEEDS = "seeds"


class TrainingState(keras.layers.Layer):
    """The part of a `HashModel` that Keras would not save.

    Keras visits it when it saves or loads the model, with its optimizer or not, because
    it is a layer and an attribute of the model. It holds no weights of its own. It
    writes the arrays of the hook `HashModel.training_state`, and the states of the
    random generators of layers such as dropout, which Keras does not save. Files
    without it can be loaded: training then derives from the data what it lacks.

    Args:
        live_arrays: function of nothing; what the model's hook returns.
        variables: function of nothing; all variables of the model.

    Attributes:
        loaded: dict of arrays, as the latest loading of weights has left them; None
            once training has gone on from them.
    """

    def __init__(
        self,
        live_arrays: Callable[[], Arrays],
        variables: Callable[[], list[keras.Variable]],
    ) -> None:
        super().__init__(name="training_state")
        # Functions, not the model: Keras would walk from here to the model, in circles.
        self._live_arrays, self._all_variables = live_arrays, variables
        self.loaded: Arrays | None = None

    def arrays(self) -> Arrays:
        """Return the state from which training goes on; empty if there is none."""
        return self._live_arrays() if self.loaded is None else dict(self.loaded)

    def save_own_variables(self, store: Any) -> None:
        for name, array in self.arrays().items():
            store[name] = array
        if seeds := self._seeds():
            store[_SEEDS] = np.stack([seed.numpy() for seed in seeds])

    def load_own_variables(self, store: Any) -> None:
        arrays = {name: np.array(store[name]) for name in store.keys()}  # noqa: SIM118
        states, seeds = arrays.pop(_SEEDS, None), self._seeds()
        # Weights may be loaded into a network with other dropout, which starts afresh.
        if states is not None and states.shape == (len(seeds), 2):
            for seed, state in zip(seeds, states, strict=True):
                seed.assign(state)
        self.loaded = arrays

    def _seeds(self) -> list[keras.Variable]:
        return random_states(self._all_variables())


def random_states(variables: list[keras.Variable]) -> list[keras.Variable]:
    """The states of random generators among variables, in the same order.

    Layers that are random in training, such as dropout, have one each.

    Args:
        variables: list of `keras.Variable`; those of a layer or model.

    Returns:
        List of `keras.Variable`.

    Example:
        >>> len(random_states(keras.layers.Dropout(0.5).variables))
        1
    """
    return [v for v in variables if v.name == "seed_generator_state"]
