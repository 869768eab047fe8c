import numpy as np
import pytest
import scipy.io

from kerashash.data import DatasetUnavailableError, load_distributions


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


def test_bad_files_are_named(arrays, tmp_path):
    with pytest.raises(DatasetUnavailableError, match=r"no file .*missing\.mat"):
        load_distributions(tmp_path / "missing.mat")
    (tmp_path / "text.mat").write_text("features, labels\n" * 20)
    with pytest.raises(ValueError, match=r"`path` must be a \.mat file.*text\.mat"):
        load_distributions(tmp_path / "text.mat")
    cases = {
        "`path` must be a .mat file with the arrays": {"labels": arrays["labels"]},
        "rows that sum to 1": {**arrays, "labels": 2 * arrays["labels"]},
        "one row for each of the 57": {**arrays, "labels": arrays["labels"][:9]},
        "must be finite": {**arrays, "features": np.full((57, 2), np.nan)},
    }
    for message, content in cases.items():
        path = write(tmp_path / "bad.mat", **content)
        with pytest.raises(ValueError, match=f"{message}.*") as error:
            load_distributions(path)
        assert "bad.mat" in str(error.value)
    path = write(tmp_path / "good.mat", **arrays)
    for share in (0, 1, -0.1):
        with pytest.raises(ValueError, match="`query_share` must be in"):
            load_distributions(path, query_share=share)
