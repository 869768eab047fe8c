"""Public names: they are those of a committed list, documented, typed, with examples.

After an intended change of the public names, run ``python tests/test_public_api.py``.
"""

import importlib
import importlib.metadata
import inspect
import pathlib
import re

import pytest

import kerashash

LIST = pathlib.Path(__file__).parent / "data" / "public_names.txt"
MODULES = [
    "kerashash",
    "kerashash.backbones",
    "kerashash.baselines",
    "kerashash.cluster",
    "kerashash.codes",
    "kerashash.data",
    "kerashash.evaluation",
    "kerashash.evaluation.label_distribution",
    "kerashash.comparison",
    "kerashash.maths",
    "kerashash.maths.communities",
    "kerashash.maths.conditional",
    "kerashash.maths.cosdish",
    "kerashash.maths.discrete",
    "kerashash.maths.entropy",
    "kerashash.maths.itq",
    "kerashash.maths.factorization",
    "kerashash.maths.fasth",
    "kerashash.maths.kernels",
    "kerashash.maths.ksh",
    "kerashash.maths.label_graph",
    "kerashash.maths.lfh",
    "kerashash.maths.losses",
    "kerashash.maths.projections",
    "kerashash.maths.sdh",
    "kerashash.maths.similarity",
    "kerashash.maths.spectral",
    "kerashash.maths.spherical",
    "kerashash.maths.svr",
    "kerashash.methods",
    "kerashash.methods.layers",
    "kerashash.methods.self_training",
    "kerashash.monitoring",
    "kerashash.monitoring.callbacks",
    "kerashash.monitoring.plots",
    "kerashash.recipes",
    "kerashash.retrieval",
    "kerashash.store",
    "kerashash.zoo",
]
# Methods that Keras calls; its documentation describes their arguments.
OF_KERAS = {
    "adapt_from_config",
    "build",
    "call",
    "compute_output_shape",
    "from_config",
    "get_config",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_begin",
    "on_train_end",
    "set_model",
    "test_step",
    "train_step",
}


def public_names():
    return sorted(
        f"{module}.{name}"
        for module in MODULES
        for name in importlib.import_module(module).__all__
    )


def public_objects():
    """Public functions and classes, each under one of its names, and the methods that
    the classes define themselves."""
    objects = {}
    for full in public_names():
        module, _, name = full.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        objects.setdefault(id(value), (full, value))
        if not inspect.isclass(value):
            continue
        for method, member in vars(value).items():
            member = getattr(member, "__func__", member)
            if inspect.isfunction(member) and not method.startswith("_"):
                objects.setdefault(id(member), (f"{full}.{method}", member))
    return dict(sorted(objects.values()))


OBJECTS = public_objects()
FUNCTIONS = {
    name: value
    for name, value in OBJECTS.items()
    if name.rpartition(".")[2] not in OF_KERAS
}


def parameters(value):
    # A class without its own constructor has another library's arguments or none.
    if inspect.isclass(value) and "__init__" not in vars(value):
        return []
    parameters = inspect.signature(value).parameters.values()
    return [p for p in parameters if p.name not in ("self", "cls")]


def test_the_front_door_has_all_names_and_says_so():
    assert {*kerashash.__all__} == {*kerashash._NAMES, *kerashash._MODULES}
    for name in kerashash.__all__:
        assert getattr(kerashash, name) is not None
        assert name in kerashash.__doc__
    assert kerashash.__version__ == importlib.metadata.version("kerashash")


@pytest.mark.parametrize("name", MODULES)
def test_completion_offers_the_public_names_alone(name):
    module = importlib.import_module(name)
    extra = ["__version__"] if name == "kerashash" else []
    assert dir(module) == sorted([*module.__all__, *extra])


def test_public_names_are_those_of_the_list():
    assert public_names() == LIST.read_text().split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented(name):
    value = FUNCTIONS[name]
    doc = inspect.getdoc(value) or ""
    assert doc, "has no docstring"
    for parameter in parameters(value):
        # "x: ...", "x, y: ...", "**kwargs: ..."
        pattern = rf"^\s+(\*{{0,2}}\w+, )*\*{{0,2}}{parameter.name}(, \*{{0,2}}\w+)*:"
        assert re.search(pattern, doc, re.M), f"does not say what {parameter.name} is"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_has_a_type(name):
    value = FUNCTIONS[name]
    for parameter in parameters(value):
        assert parameter.annotation is not parameter.empty, parameter.name
    if inspect.isfunction(value):
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize(
    "name", [name for name in FUNCTIONS if name.rpartition(".")[0] in MODULES]
)
def test_every_public_name_has_an_example(name):
    if inspect.isclass(OBJECTS[name]) and issubclass(OBJECTS[name], Exception):
        return
    assert ">>> " in (inspect.getdoc(OBJECTS[name]) or "")


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n")
