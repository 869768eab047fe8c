import numpy as np
import pytest
import scipy.io

import kerashash
from kerashash.data import DatasetUnavailableError, distributions, load_distributions
from kerashash.data.builders import ldl


@pytest.fixture
def arrays(rng):
    d = rng.dirichlet(np.ones(4), 57)
    # Each row is known by its first feature.
    return {"features": np.c_[np.arange(57.0), d], "labels": d}


def write(path, **arrays):
    scipy.io.savemat(path, arrays)
    return path


def test_splits_are_disjoint_seeded_and_complete(arrays, tmp_path):
    path = write(tmp_path / "tiny.mat", **arrays)
    data = load_distributions(path, seed=3)
    assert data.x_train.shape == (52, 5)
    assert data.d_query.shape == (5, 4)
    rows = np.concatenate([data.x_train, data.x_query])[:, 0].astype(int)
    assert sorted(rows) == list(range(57))
    d = np.concatenate([data.d_train, data.d_query])
    np.testing.assert_allclose(d, arrays["labels"][rows], rtol=1e-6)
    again, other = load_distributions(str(path), 3), load_distributions(path, 4)
    np.testing.assert_array_equal(again.x_query, data.x_query)
    assert not np.array_equal(other.x_query, data.x_query)


def test_validation_rows_are_cut_from_the_training_rows(arrays, tmp_path):
    path = write(tmp_path / "tiny.mat", **arrays)
    whole, data = (load_distributions(path, 3, validation=v) for v in (0, 0.25))
    assert whole.x_validation is whole.d_validation is None
    assert len(data.x_validation) == len(data.d_validation) == 13
    np.testing.assert_array_equal(data.x_query, whole.x_query)
    rows = np.concatenate([data.x_validation, data.x_train])
    np.testing.assert_array_equal(rows, whole.x_train)
    for share, message in ((1.0, "must be in"), (0.01, "`validation` must draw a row")):
        with pytest.raises(ValueError, match=message):
            load_distributions(path, validation=share)


def test_bad_files_are_named(arrays, tmp_path):
    with pytest.raises(DatasetUnavailableError, match=r"no file .*missing\.mat"):
        load_distributions(tmp_path / "missing.mat")
    with pytest.raises(DatasetUnavailableError, match="is no regular file"):
        load_distributions(tmp_path)
    (tmp_path / "text.mat").write_text("features, labels\n" * 20)
    with pytest.raises(ValueError, match=r"text\.mat must be a \.mat file"):
        load_distributions(tmp_path / "text.mat")
    cases = {
        "must hold the arrays `features` and `labels`": {"labels": arrays["labels"]},
        "rows that sum to 1": {**arrays, "labels": 2 * arrays["labels"]},
        "one row for each of the 57": {**arrays, "labels": arrays["labels"][:9]},
        "must be finite": {**arrays, "features": np.full((57, 2), np.nan)},
    }
    for message, content in cases.items():
        path = write(tmp_path / "bad.mat", **content)
        with pytest.raises(ValueError, match=f"{message}.*") as error:
            load_distributions(path)
        assert "bad.mat" in str(error.value)
    for path in (None, 3, b"some.mat"):
        with pytest.raises(TypeError, match="`name` must be a path"):
            load_distributions(path)
    (tmp_path / "new.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    with pytest.raises(ValueError, match=r"HDF5, as of version 7\.3; save it"):
        load_distributions(tmp_path / "new.mat")
    path = write(tmp_path / "good.mat", **arrays)
    for share in (0, 1, -0.1):
        with pytest.raises(ValueError, match="`query_share` must be in"):
            load_distributions(path, query_share=share)


def test_every_form_gives_the_same_split(arrays, tmp_path):
    x, d = arrays["features"], arrays["labels"]
    expected = load_distributions(write(tmp_path / "a.mat", **arrays))
    np.savez(tmp_path / "a.npz", **arrays)
    header = ",".join("abcdefghi")
    for name, first in (("header.csv", header), ("plain.csv", "")):
        table = np.c_[x, d]
        np.savetxt(tmp_path / name, table, "%.17g", ",", header=first, comments="")
    loaded = [
        load_distributions((x, d)),
        load_distributions((x.tolist(), d.tolist())),
        load_distributions(tmp_path / "a.npz"),
        load_distributions(tmp_path / "header.csv", num_classes=4),
        load_distributions(str(tmp_path / "plain.csv"), num_classes=4),
    ]
    for data in loaded:
        for value, right in zip(data[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(value, right)
    sizes = "train=52, query=5, validation=0, dim=5, num_classes=4"
    assert repr(expected) == f"DistributionData({sizes})"


def test_bad_tables_are_named(arrays, tmp_path):
    path = tmp_path / "bad.csv"
    for content, classes, message in (
        ("1,0.5,0.5\n", None, "`num_classes` must be the number of label columns"),
        ("1,0.5,0.5\n", 3, "more than num_classes=3 columns"),
        ("a,b,c\n", 2, "at least one row"),
        ("1,0.5,0.5\n1,x,0.5\n", 2, "must hold numbers"),
        ("1,0.5,0.5\n1,0.5\n", 2, "as many in each line"),
        ("1,0.5,0.6\n", 2, "rows that sum to 1"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            load_distributions(path, num_classes=classes)
        assert "bad.csv" in str(error.value)
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"bad\.npz"):
        load_distributions(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="`name` must be a pair"):
        load_distributions((arrays["features"],))
    with pytest.raises(ValueError, match="one row for each of the 57"):
        load_distributions((arrays["features"], arrays["labels"][:5]))
    with pytest.raises(ValueError, match="one or more features"):
        load_distributions((arrays["features"][:, :0], arrays["labels"]))


def test_names_are_those_of_the_builder():
    configs = tuple(config.name for config in ldl.Ldl.BUILDER_CONFIGS)
    assert configs == distributions.NAMES
    assert kerashash.data.list()["ldl/movie"] == ("90-10",)


def test_a_data_set_by_name_is_its_file(tmp_path, rng):
    manual = tmp_path / "downloads" / "manual" / "ldl"
    manual.mkdir(parents=True)
    arrays = {
        "features": rng.normal(size=(213, 243)).astype(np.float32),
        "labels": rng.dirichlet(np.ones(6), 213),
    }
    write(manual / "SJAFFE.mat", **arrays)
    named = kerashash.data.load("ldl/sjaffe", seed=4, data_dir=tmp_path)
    for actual, expected in zip(
        named, load_distributions(manual / "SJAFFE.mat", seed=4), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(DatasetUnavailableError, match=r"(?s)movie.*Movie\.mat"):
        kerashash.data.load("ldl/movie", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"seed": 1.5}, TypeError, "`seed` must be an integer"),
        ({"seed": None}, TypeError, "`seed` must be an integer"),
        ({"query_share": 0.01}, ValueError, "`query_share` must draw a row"),
        ({"query_share": "a"}, TypeError, "`query_share` must be a number"),
    ],
)
def test_draws_are_checked(options, error, message, rng):
    pair = (rng.normal(size=(9, 3)), rng.dirichlet(np.ones(4), 9))
    with pytest.raises(error, match=message):
        kerashash.data.load_distributions(pair, **options)


def test_a_field_that_is_too_long_is_no_csv(tmp_path):
    file = tmp_path / "long.csv"
    file.write_text("1" * 200_000 + ",1\n")
    with pytest.raises(ValueError, match=r"long\.csv must be a CSV file"):
        kerashash.data.load_distributions(file, num_classes=1)
