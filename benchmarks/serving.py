"""Latency, throughput and memory of `kerashash serve`, asked over HTTP.

    python -m benchmarks serving FOLDER [--entries NAME ...] [--requests N]

FOLDER has photographs to search for. Its first 64 JPEG files, resized to each size that
is measured, are searched for in the store of the entry's own database codes, k=20. One
client asks an idle server; then several ask without pause, with photographs encoded
together and each alone. Each run has a server process of its own, on the loopback
interface. `cpu_ms` is the server's processor time a request: it says more than the rest
on a machine with other work.
"""

import argparse
import concurrent.futures
import http.client
import io
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

import kerashash
from benchmarks.table import Table, versioned
from kerashash import archives, zoo

RESULTS = Table("serving.csv", "entry", "photograph", "clients", "batch")
K = 20
PROGRAM = "import sys; from kerashash import cli; sys.exit(cli.main())"


class Server:
    """A process of `kerashash serve`."""

    def __init__(self, store, batch):
        command = [sys.executable, "-c", PROGRAM, "serve", str(store), "--port", "0"]
        command += ["--batch", str(batch)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        address = self.process.stdout.readline()
        self.port = int(re.search(r":(\d+)/", address)[1])

    def memory(self):
        """Resident memory in MB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def seconds(self):
        """Processor time in seconds, of all threads."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def photographs(folder, size):
    """JPEG files of a size, as bytes."""
    result = []
    for path in sorted(pathlib.Path(folder).rglob("*.jpg"))[:64]:
        file = io.BytesIO()
        with Image.open(path) as image:
            resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        resized.save(file, "JPEG", quality=90)
        result.append(file.getvalue())
    return result


def ask(port, requests, queries):
    """Times of requests on one connection, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times, headers = [], {"Content-Type": "image/jpeg"}
    for data in itertools.islice(itertools.cycle(queries), requests):
        start = time.perf_counter()
        connection.request("POST", f"/v1/search?k={K}", data, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        times.append(1000 * (time.perf_counter() - start))
        assert response.status == 200, answer
        assert len(answer["neighbours"]) == K
    connection.close()
    return times


def measure(store, entry, size, clients, requests, batch, queries):
    with Server(store.path, batch) as server:
        ask(server.port, 8, queries)
        memory, processor = [server.memory()], server.seconds()
        times, seconds = [], 0.0
        for _ in range(2):  # halves, to look at the memory between them
            with concurrent.futures.ThreadPoolExecutor(clients) as pool:
                start = time.perf_counter()
                shares = [
                    pool.submit(
                        ask,
                        server.port,
                        requests // 2 // clients,
                        queries[client:] + queries[:client],
                    )
                    for client in range(clients)
                ]
                times += [time for share in shares for time in share.result()]
                seconds += time.perf_counter() - start
            memory.append(server.memory())
        processor = server.seconds() - processor
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    RESULTS.add(
        {
            "entry": versioned(entry),
            "photograph": "x".join(map(str, size)),
            "clients": clients,
            "batch": batch,
            "codes": len(store),
            "requests": len(times),
            "p50_ms": f"{p50:.1f}",
            "p90_ms": f"{p90:.1f}",
            "p99_ms": f"{p99:.1f}",
            "requests_per_second": f"{len(times) / seconds:.1f}",
            "cpu_ms": f"{1000 * processor / len(times):.1f}",
            "start_mb": f"{memory[0]:.0f}",
            "middle_mb": f"{memory[1]:.0f}",
            "end_mb": f"{memory[2]:.0f}",
        }
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument(
        "--entries", nargs="+", default=["dcdh-ap-mirflickr-48", "adalabel-cifar10-48"]
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=2000,
        help="of all clients (default: 2000); 0 measures one client alone",
    )
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    for entry in options.entries:
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch, "photos.khs")
            store = kerashash.CodeStore.create(path, model=entry)
            codes = archives.read_npz(zoo.entry(entry).path / "codes.npz")
            store.add(codes["database_codes"])
            for size in ((128, 128), (640, 480), (4000, 3000)):
                queries = photographs(options.folder, size)
                measure(store, entry, size, 1, 200, 8, queries)
            clients, requests = options.clients, options.requests
            queries = photographs(options.folder, (640, 480))
            for batch in (8, 1) if requests else ():
                measure(store, entry, (640, 480), clients, requests, batch, queries)


if __name__ == "__main__":
    main()
