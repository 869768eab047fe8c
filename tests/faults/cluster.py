"""Kill what encodes on a cluster: the store must be exactly the set of images.

On a Ray of two nodes on this machine, a process encodes a folder of images into a store
while workers, and now and then the process itself or a node, are killed at random
moments. A process that was killed is started again, and goes on. In the end the store
must have the rows of one that was filled by a single process, in the same order.

    python tests/faults/cluster.py --kills 30   # a row in faults.csv

Without --kills, one worker is killed; then actors search the codes, of which one is
killed as well, and Parquet files are encoded. `tests/test_cluster.py` runs a part of
that, with one actor: each costs some seconds, in which it imports TensorFlow.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray would take several nodes on one machine for a mistake.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import keras
import numpy as np

import kerashash
from kerashash import cluster
from kerashash.store import encode_files, filling

# A run that hangs is a fault.
SECONDS = 600
SIDE = 16


def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((SIDE, SIDE, 3)),
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
    ]
    return kerashash.baselines.SSDH(keras.Sequential(layers), bits=20, num_classes=3)


def make_images(folder, count, side):
    """Write images, of which some are damaged."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((side, side))
        picture.save(folder / f"{number:05}.jpg")
        if number % 50 == 7:
            content = (folder / f"{number:05}.jpg").read_bytes()
            (folder / f"{number:05}.jpg").write_bytes(content[: len(content) // 2])


class Nodes:
    """A Ray of two nodes on this machine, with one core each."""

    def __enter__(self):
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "object_store_memory": 100 << 20}
        head |= {"include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.add()
        self.address = self.cluster.address
        return self

    def __exit__(self, *_):
        self.cluster.shutdown()

    def add(self):
        self.second = self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        self.cluster.wait_for_nodes()

    def replace(self):
        """Kill the node on which nothing else runs, and start another."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.add()

    def actors(self, name):
        """Process ids of the actors of a class, on both nodes."""
        nodes = [self.cluster.head_node, self.second]
        raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
        pids = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, ValueError, IndexError):
                continue
            if parent in raylets and title.startswith(f"ray::{name}"):
                pids.append(int(entry.name))
        return sorted(pids)


def rows(store):
    columns = {name: values.tolist() for name, values in store.columns().items()}
    return {**columns, "codes": store.codes().tolist()}


# The long form: random kills


def encode(address, folder, path):
    """What the process that is killed does."""
    store = kerashash.CodeStore.open(path, model())
    encoded = cluster.encode_files(
        folder, store, actors=2, batch_size=16, address=address, verbose=0
    )
    print(json.dumps([encoded.new, encoded.unchanged, len(encoded.skipped)]))


def kill_until(count, images, seed):
    """Fill stores until so many processes have been killed.

    Returns:
        dict of counts by what was killed, the number of stores filled, and faults.
    """
    rng = random.Random(seed)
    counts = {"worker": 0, "driver": 0, "node": 0}
    stores, faults = 0, []
    with tempfile.TemporaryDirectory() as temporary, Nodes() as nodes:
        scratch = pathlib.Path(temporary)
        make_images(scratch / "images", images, side=400)
        expected = kerashash.CodeStore.create(scratch / "one.khs", model())
        skipped = encode_files(scratch / "images", expected, verbose=0).skipped
        path = scratch / "many.khs"
        command = [sys.executable, __file__, "--encode", nodes.address]
        command += [str(scratch / "images"), str(path)]
        while sum(counts.values()) < count:
            shutil.rmtree(path, ignore_errors=True)
            kerashash.CodeStore.create(path, model())
            deadline = time.monotonic() + SECONDS
            status = None
            while status != 0:
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                while (status := process.poll()) is None:
                    time.sleep(rng.expovariate(1 / 8))
                    if time.monotonic() > deadline:
                        process.kill()
                        process.wait()
                        faults.append(f"not done after {SECONDS} s")
                        return {**counts, "stores": stores}, faults
                    # Time to end in peace, after the last kill.
                    workers = nodes.actors("MapWorker")
                    if not workers or sum(counts.values()) >= count:
                        continue
                    what = rng.choices([*counts], [8, 1, 1])[0]
                    if what == "worker":
                        os.kill(rng.choice(workers), signal.SIGKILL)
                    elif what == "driver":
                        process.kill()
                    else:
                        nodes.replace()
                    counts[what] += 1
                    print(f"killed a {what}", file=sys.stderr, flush=True)
                if status not in (0, -signal.SIGKILL):
                    faults.append(f"the process ended with {status}")
                    return {**counts, "stores": stores}, faults
            stores += 1
            store = kerashash.CodeStore.open(path)
            if rows(store) != rows(expected):
                faults.append(f"{len(store)} rows are not the {len(expected)} expected")
            if len(expected) + len(skipped) != images:
                faults.append("the single process has lost images")
    return {**counts, "stores": stores}, faults


# The short form


def short(parts, actors, scratch, images=400):
    """Encode, search and read Parquet on one Ray; returns what came of it."""
    import ray

    report = {}
    make_images(scratch / "images", images, side=100)
    one = kerashash.CodeStore.create(scratch / "one.khs", model())
    encoded = encode_files(scratch / "images", one, verbose=0)
    report["one"] = [encoded.new, len(encoded.skipped)]
    with Nodes() as nodes:
        ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
        try:
            for part in parts:
                report[part] = PARTS[part](nodes, scratch, one, actors)
        finally:
            ray.shutdown()
    return report


def short_encode(nodes, scratch, one, actors):
    """Encode, and kill an actor after the first commit."""
    store = kerashash.CodeStore.create(scratch / "two.khs", one.model)
    filling._COMMIT_ROWS = 10
    upsert, rows_at_kill = store.upsert, []

    def upsert_and_kill(*arguments, **options):
        upsert(*arguments, **options)
        if not rows_at_kill:
            rows_at_kill.append(len(store))
            os.kill(nodes.actors("MapWorker")[0], signal.SIGKILL)

    store.upsert = upsert_and_kill
    encoded = cluster.encode_files(scratch / "images", store, actors=actors, verbose=0)
    again = encode_files(scratch / "images", store, verbose=0)
    return {
        "counts": [encoded.new, len(encoded.skipped)],
        "rows_at_kill": rows_at_kill,
        "equal": rows(store) == rows(one),
        "again": [again.new, again.changed, again.unchanged, len(again.skipped)],
    }


def short_search(nodes, scratch, one, actors):
    """Search shards, of which one is killed in between, and one ranker."""
    codes, differences = one.codes(), 0
    ranker, queries = one.ranker(), codes[:40]
    with cluster.ShardedRanker(codes, one.bits, shards=actors) as shards:
        searches = [("top_k", k) for k in (1, 30, len(codes) // 2 + 5, len(codes))]
        searches += [("within", radius) for radius in (0, 3, one.bits)]
        for number, (method, value) in enumerate(searches):
            if number == 3:
                os.kill(nodes.actors("_Shard")[0], signal.SIGKILL)
            expected = getattr(ranker, method)(queries, value)
            found = getattr(shards, method)(queries, value)
            for a, b in zip(expected, found, strict=True):
                for row, other in zip(a, b, strict=True):
                    differences += row.dtype != other.dtype
                    differences += row.tolist() != other.tolist()
    return {"searches": len(searches), "differences": int(differences)}


def short_parquet(nodes, scratch, one, actors):
    """Encode Parquet files whose first rows are there, and again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted((scratch / "images").iterdir())
    (scratch / "tables").mkdir()
    for part in range(3):
        some = paths[part::3]
        columns = {"name": [path.name for path in some], "number": [*range(len(some))]}
        columns["jpeg"] = [path.read_bytes() for path in some]
        file = scratch / "tables" / f"{part}.parquet"
        pq.write_table(pa.table(columns), file, row_group_size=60)
    store = kerashash.CodeStore.create(scratch / "parquet.khs", one.model)
    known = dict(zip(one.columns()["id"], one.codes(), strict=True))
    first = paths[0]
    # A code that encoding would not give: the row must be left alone.
    wrong = known[str(first)][None] ^ np.array([128, 0, 0], np.uint8)
    store.add(wrong, ids=[first.name], columns={"number": [-1]})
    options = {"image": "jpeg", "ids": "name", "columns": ["number"], "verbose": 0}
    tables = str(scratch / "tables")
    encoded = cluster.encode_parquet(tables, store, actors=actors, **options)
    ids, codes = store.columns()["id"], store.codes()
    right = [
        (codes[row] == known[str(scratch / "images" / name)]).all()
        for row, name in enumerate(ids)
        if name != first.name
    ]
    return {
        "counts": [encoded.new, encoded.unchanged, len(encoded.skipped)],
        "right": [len(right), int(sum(right))],
        "left alone": bool((codes[0] == wrong[0]).all()),
        "numbers": sorted({*store.columns()["number"].tolist()})[:3],
    }


PARTS = {"encode": short_encode, "search": short_search, "parquet": short_parquet}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", help=f"of the short form: {[*PARTS]}")
    parser.add_argument("--actors", type=int, default=2, help="of the short form")
    parser.add_argument("--kills", type=int, help="processes to kill in all")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encode", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.encode:
        return encode(*options.encode)
    if options.kills is None:
        with tempfile.TemporaryDirectory() as scratch:
            parts = options.parts or [*PARTS]
            report = short(parts, options.actors, pathlib.Path(scratch))
        return print(json.dumps(report))
    started = time.monotonic()
    counts, faults = kill_until(options.kills, options.images, options.seed)
    stores = counts.pop("stores")
    outcomes = ", ".join(f"{n} {what}s" for what, n in counts.items() if n)
    row = {
        "harness": "kills",
        "target": "encode on a cluster",
        "runs": sum(counts.values()),
        "outcomes": f"killed {outcomes}; {stores} stores of {options.images} images",
        "faults": len(faults),
        "seconds": round(time.monotonic() - started),
    }
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
    from benchmarks.table import Table

    print(*row.values(), sep="; ", flush=True)
    if options.kills >= 30:
        Table("faults.csv", "harness", "target").add(row)
    return None


if __name__ == "__main__":
    main()
