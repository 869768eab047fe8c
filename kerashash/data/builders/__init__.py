"""TensorFlow Datasets builders for retrieval data sets; importing registers them.

After ``import kerashash.data.builders``, `tfds.builder`, `tfds.load` and
`tfds.data_source` know ``mirflickr25k``, ``nus_wide``, ``flowers17`` and
``ldl/<data set>``. None of them can be downloaded without a person's consent: each
builder's ``MANUAL_DOWNLOAD_INSTRUCTIONS`` say which files to download and where to put
them.

Examples keep the publishers' order, so that row i of a split is a known image:

    builder = tfds.builder("mirflickr25k", file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    source[41]["image"]  # the bytes of im42.jpg, as published
"""

from kerashash.data.builders import flowers17, ldl, mirflickr25k, nus_wide

__all__ = ["flowers17", "ldl", "mirflickr25k", "nus_wide"]
