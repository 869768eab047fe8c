"""The builders under TensorFlow Datasets' own test case."""

import pathlib
import shutil
import tempfile

import pytest
import tensorflow_datasets as tfds
import test_builders as fake

from kerashash.data import builders

pytest.importorskip("dill", reason="TensorFlow Datasets' test case needs it")


class _WithFakeData:
    """Writes the fake data before TensorFlow Datasets' test case looks for it."""

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.write(pathlib.Path(cls.EXAMPLE_DIR))
        # Where TFDS looks for tags; it takes this module for a package.
        cls.DATASET_CLASS.pkg_dir_path = pathlib.Path(builders.__file__).parent
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)


class Mirflickr25kTest(_WithFakeData, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = fake.TinyMirflickr25k
    SPLITS = {"train": 24}  # noqa: RUF012
    write = staticmethod(fake.write_mirflickr25k)


class Flowers17Test(_WithFakeData, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = fake.TinyFlowers17
    SPLITS = {"train": 17}  # noqa: RUF012
    write = staticmethod(fake.write_flowers17)


class NusWideTest(_WithFakeData, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = fake.TinyNusWide
    SPLITS = {"train": 3, "test": 2}  # noqa: RUF012
    write = staticmethod(fake.write_nus_wide)


class LdlTest(_WithFakeData, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = fake.TinyLdl
    SPLITS = {"train": 4}  # noqa: RUF012
    write = staticmethod(fake.write_ldl)
