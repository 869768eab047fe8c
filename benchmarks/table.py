"""Results of a benchmark: a CSV file that grows run by run."""

import csv
import os
import pathlib
import shlex
import sys

import keras
import tensorflow as tf

FOLDER = pathlib.Path(__file__).parent / "results"


class Table:
    """Rows of benchmarks/results/<name>, written after each run.

    A run that was stopped goes on: ``("full", 0) in table`` tells whether the row of
    these keys is there. `add` puts in a row, in the place of one of the same keys, with
    the machine, the versions and the command.

    Args:
        name: str, the file's name.
        keys: names of the columns that tell the rows apart.
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
        # Files are given by path; where they lie on one machine says nothing.
        words = [os.path.basename(word) for word in sys.argv[1:]]
        row = {
            **row,
            "machine": f"{os.cpu_count()} CPU cores",
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "command": shlex.join(
                ["python", f"benchmarks/{os.path.basename(sys.argv[0])}", *words]
            ),
        }
        print(row, flush=True)
        self.rows[self._key(row)] = row
        with self.file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            writer.writeheader()
            writer.writerows(self.rows.values())

    def _key(self, row):
        return tuple(str(row[name]) for name in self.keys)
