"""The results of a benchmark or a harness: a CSV file that grows run by run."""

import csv
import os
import pathlib
import shlex
import sys

import keras
import tensorflow as tf

FOLDER = pathlib.Path(__file__).parent / "results"


class Table:
    """Rows of benchmarks/results/<name>, written to the file after each run.

    An interrupted benchmark can be resumed: ``("full", 0) in table`` says whether there
    is a row with these values of the key columns. `add` adds a row, with the machine,
    the versions and the command, and replaces a row with the same keys.

    Args:
        name: str, the name of the file.
        keys: names of the key columns, which together identify a row.
    """

    def __init__(self, name, *keys):
        self.file = FOLDER / name
        self.keys = keys
        self.rows = {}
        if self.file.exists():
            with self.file.open(newline="") as stream:
                for row in csv.DictReader(stream):
                    self.rows[self._key(row)] = row

    def __contains__(self, key):
        return tuple(map(str, key)) in self.rows

    def add(self, row):
        # Without the folders of file arguments: they mean nothing on other machines.
        words = [os.path.basename(word) for word in sys.argv[1:]]
        script = pathlib.Path(sys.argv[0]).resolve().relative_to(FOLDER.parents[1])
        row = {
            **row,
            "machine": f"{os.cpu_count()} CPU cores",
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "command": shlex.join(["python", script.as_posix(), *words]),
        }
        print(row, flush=True)
        self.rows[self._key(row)] = row
        with self.file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            writer.writeheader()
            writer.writerows(self.rows.values())

    def _key(self, row):
        return tuple(str(row[name]) for name in self.keys)
