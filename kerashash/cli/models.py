"""Models that commands name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerashash.methods import HashModel


def load(name: str) -> "HashModel":
    """Load a model.

    Args:
        name: str; a name of the zoo, the folder of an entry, or a ``.keras`` file.

    Returns:
        `HashModel`.
    """
    if name.endswith(".keras"):
        from kerashash.saving import load_model

        return load_model(name)
    from kerashash import zoo

    return zoo.load(name)
