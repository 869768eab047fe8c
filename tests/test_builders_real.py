"""The builders on the published data, where it is on this machine."""

import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from test_builders import SKIP, build

from kerashash.data import loading, protocols, sources
from kerashash.data.builders import flowers17, ldl, mirflickr25k, nus_wide

MANUAL = (
    pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    / "downloads"
    / "manual"
)


def folder(*names):
    folders = [MANUAL / name for name in names if (MANUAL / name).exists()]
    if not folders:
        pytest.skip(f"{names[0]} is not in {MANUAL}")
    return folders[0]


@pytest.fixture(scope="module")
def nus_wide_truth():
    """Names, labels, and which images are for training."""
    return nus_wide.read_ground_truth(folder(*nus_wide.NusWide.FOLDERS))


def test_nus_wide_ground_truth(nus_wide_truth):
    names, labels, is_train = nus_wide_truth
    assert labels.shape == (269_648, 81)
    assert is_train.sum() == 161_789
    assert names[0] == "actor/0001_2124494179.jpg"
    # The builder finds images by their file names.
    assert len({name.split("/")[1] for name in names}) == len(names)
    columns = protocols.most_frequent(labels, 21)
    assert labels[:, columns].any(axis=1).sum() == 195_834
    assert [nus_wide.CONCEPTS[column] for column in columns[:3]] == [
        "sky",
        "clouds",
        "person",
    ]


def test_nus_wide_protocols_have_the_papers_counts(nus_wide_truth):
    names, labels, is_train = nus_wide_truth
    source = sources.Source(None, labels, ~is_train, nus_wide.CONCEPTS, names)
    counts = {
        "21-full": {"query": 2_100, "database": 193_734, "train": 193_734},
        "21-10.5k-train": {"query": 2_100, "database": 193_734, "train": 10_500},
        "21-semi": {
            "query": 2_100,
            "database": 193_734,
            "train": 10_500,
            "unlabelled": 183_234,
        },
        "81-official": {"query": 107_859, "database": 161_789, "train": 161_789},
    }
    manifests = {}
    for protocol, expected in counts.items():
        choice = loading._DATASETS["nus_wide"].protocols[protocol]
        narrowed, splits = choice.apply(source, seed=0)
        assert {split: len(rows) for split, rows in splits.items()} == expected
        assert not {*splits["query"]} & {*splits["database"]}
        assert {*splits["train"]} <= {*splits["database"]}
        manifests[f"{protocol}, seed 0"] = loading.manifest(splits, names)
        if protocol == "81-official":
            continue
        for split, rows in splits.items():
            assert narrowed.labels[rows].any(axis=1).all(), split
        assert (narrowed.labels[splits["query"]].sum(axis=0) >= 100).all()
    assert manifests == loading.published("nus_wide")


def test_mirflickr25k_annotations():
    labels = mirflickr25k.read_annotations(folder("mirflickr25k"))
    assert labels.shape == (25_000, 38)
    assert labels.any(axis=0).all()
    # A relevant label is a potential one, but for a few images.
    for column, label in enumerate(mirflickr25k.RELEVANT, 24):
        potential = mirflickr25k.POTENTIAL.index(label.removesuffix("_r1"))
        assert (labels[:, column] > labels[:, potential]).sum() <= 2


@pytest.mark.parametrize("label", ["sky", "baby_r1", "sea_r1"])
def test_cut_annotations_of_mirflickr25k_are_refused(tmp_path, label):
    whole = folder("mirflickr25k")
    shutil.copytree(
        whole / mirflickr25k._ANNOTATIONS, tmp_path / mirflickr25k._ANNOTATIONS
    )
    file = tmp_path / mirflickr25k._ANNOTATIONS / f"{label}.txt"
    content = file.read_bytes()
    for end in range(0, len(content) * 3 // 4, len(content) // 8):
        file.write_bytes(content[:end])
        with pytest.raises(ValueError, match=rf"{label}\.txt must hold|has been cut"):
            mirflickr25k.read_annotations(tmp_path)


def test_flowers17(tmp_path):
    images = folder("flowers17") / "jpg"
    builder = build(flowers17.Flowers17, MANUAL, tmp_path)
    source = builder.as_data_source("train", decoders=SKIP)
    assert len(source) == 1360
    for row in (0, 79, 80, 1359):
        example = source[row]
        assert (example["id"], example["label"]) == (row + 1, row // 80)
        assert example["image"] == (images / f"image_{row + 1:04d}.jpg").read_bytes()


@pytest.mark.parametrize("config", ldl.Ldl.BUILDER_CONFIGS, ids=lambda c: c.name)
def test_ldl(config):
    features, d = ldl.read_mat(folder(f"ldl/{config.file}"))
    assert features.shape == (config.rows, config.dim or features.shape[1])
    assert d.shape == (config.rows, config.num_classes)


def test_smallest_ldl_is_built(tmp_path):
    features, d = ldl.read_mat(folder("ldl/SJAFFE.mat"))
    source = build(ldl.Ldl, MANUAL, tmp_path, config="sjaffe").as_data_source("train")
    for row in (0, 100, 212):
        np.testing.assert_array_equal(source[row]["features"], features[row])
        np.testing.assert_array_equal(source[row]["distribution"], d[row])


def test_incomplete_mirflickr25k_is_refused(tmp_path):
    images = folder("mirflickr25k") / "mirflickr"
    if (images / "im25000.jpg").exists():
        pytest.skip("all images are there")
    with pytest.raises(FileNotFoundError, match="have all of its 25,000 images"):
        build(mirflickr25k.Mirflickr25k, MANUAL, tmp_path)
    assert not tfds.builder("mirflickr25k", data_dir=tmp_path).is_prepared()
