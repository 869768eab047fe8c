"""What arguments may be: checks that name what is wrong, and presets."""

import numbers

# How many names an error spells out.
_SPELLED_OUT = 10


def check_integer(name, value, least=1, most=None):
    """Refuse what is not an integer in a range.

    Args:
        name: str, the argument to name in an error.
        value: what was received.
        least, most: int; None for no limit.

    Returns:
        int.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is out of range.

    Example:
        >>> check_integer("epochs", 3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    if value < least:
        raise ValueError(
            f"`{name}` must be at least {least}. Received: {name}={value}."
        )
    if most is not None and value > most:
        raise ValueError(f"`{name}` must be at most {most}. Received: {name}={value}.")
    return int(value)


def check_least(least, **values):
    """Refuse numbers, given by name, that are below a limit or NaN."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(
                f"`{name}` must be at least {least}. Received: {name}={value}."
            )


def check_choices(allowed, **values):
    """Refuse values, given by name, that are not among those allowed for the name."""
    for name, value in values.items():
        if value not in allowed[name]:
            raise ValueError(
                f"`{name}` must be one of {allowed[name]}. Received: {value!r}."
            )


def from_preset(presets, preset, **options):
    """Options of a method, those left at None taken from a preset.

    Args:
        presets: dict of dicts, the options of each preset.
        preset: str, its name.
        **options: the user's values; None where the preset is to decide.

    Returns:
        dict of the options.

    Raises:
        ValueError: if there is no such preset.

    Example:
        >>> from_preset({"paper": {"margin": 1.0}}, "paper", margin=None)
        {'margin': 1.0}
    """
    check_choices({"preset": [*presets]}, preset=preset)
    chosen = presets[preset]
    return {k: chosen[k] if v is None else v for k, v in options.items()}


def listing(names):
    """The first ten names and how many there are, for an error.

    Example:
        >>> listing(["im1.jpg", "im2.jpg"])
        '2 files: im1.jpg, im2.jpg'
        >>> listing(range(12))
        '12 files: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    names = [str(name) for name in names]
    rest = len(names) - _SPELLED_OUT
    noun = "file" if len(names) == 1 else "files"
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"{len(names):,} {noun}: {', '.join(names[:_SPELLED_OUT])}{more}"
