"""Run benchmarks side by side with what they are compared with, and draw figures.

    python -m benchmarks                              # list them
    python -m benchmarks ranker evaluation            # run some, one after another
    python -m benchmarks ranker --memory              # arguments go to the benchmark
    python -m benchmarks --all --photographs FOLDER   # all whose needs are there
    python -m benchmarks --quick --all                # short forms, in a few minutes
    python -m benchmarks --plot                       # only draw the figures

To be run in the root of the repository. Each run is a process of its own; `python -m
benchmarks NAME --help` shows the benchmark's options. Results are rows of CSV files,
with the machine, the versions and the command; then figures are drawn from the files.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import os
import pathlib
import shlex
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
# In the arguments of a run: the folder of photographs, and the first one in it.
PHOTOGRAPHS, PHOTOGRAPH = "PHOTOGRAPHS", "PHOTOGRAPH"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark: the module of its name in this folder.

    Attributes:
        measures: str; what is measured.
        beside: str; what it is compared with, in the same run.
        minutes: int; about how long all its runs take on two cores.
        runs: tuple; the arguments of each of its runs. None if only the user can know
            them.
        quick: tuple of str or None; the arguments of its short form.
        modules: tuple of str; the modules that it needs, besides those of kerashash.
        data: str; the data set or file that it needs, below the folder of TensorFlow
            Datasets.
    """

    measures: str
    beside: str
    minutes: int
    runs: tuple[tuple[str, ...], ...] = ((),)
    quick: tuple[str, ...] | None = None
    modules: tuple[str, ...] = ()
    data: str = ""

    def needs(self, photographs: pathlib.Path | None) -> dict[str, bool]:
        """What the runs need, and whether it is there."""
        needs = {
            f"package {module}": importlib.util.find_spec(module) is not None
            for module in self.modules
        }
        if self.data:
            path = DATA.expanduser() / self.data
            # Data sets that TensorFlow Datasets has prepared have a file of that name.
            prepared = any(path.rglob("dataset_info.json"))
            needs[str(DATA / self.data)] = path.is_file() or prepared
        if {PHOTOGRAPHS, PHOTOGRAPH} & {*itertools.chain(*self.runs)}:
            needs["--photographs FOLDER"] = photographs is not None
        if not self.runs:
            needs["arguments"] = False
        return needs


BENCHMARKS = {
    "ranker": Benchmark(
        "search of the nearest codes, all sizes",
        "faiss, usearch, NumPy, a loop that sorts",
        25,
        runs=((), ("--memory",)),
        quick=("--largest", "100000"),
        modules=("faiss", "usearch"),
    ),
    "engines": Benchmark(
        "images to codes by each engine, from memory and by path; mAP of int8 and of "
        "mirror images",
        "OpenVINO's own pace",
        30,
        runs=(("speed", PHOTOGRAPHS), ("int8",), ("mirrored",), ("load",)),
        quick=("load",),
        modules=("openvino", "ai_edge_litert", "nncf"),
        data="cifar10",
    ),
    "onednn": Benchmark(
        "codes of images, and heads, by TensorFlow with oneDNN",
        "TensorFlow without it",
        5,
        quick=("--turns", "1"),
    ),
    "evaluation": Benchmark(
        "mAP and the other measures, at the size of NUS-WIDE",
        "a loop that sorts for each query",
        3,
        quick=(),
    ),
    "encoding": Benchmark(
        "photographs to codes, by path and from memory; kills, memory, large files",
        "the network on arrays",
        60,
        runs=tuple((w, PHOTOGRAPHS) for w in ("speed", "kills", "memory", "large")),
        quick=("speed", PHOTOGRAPHS, "--images", "512"),
    ),
    "index": Benchmark(
        "search by an index of the codes",
        "the scan of all codes",
        90,
        runs=((), ("--large",)),
        quick=("--sizes", "50000", "--codes", "random"),
    ),
    "store": Benchmark(
        "codes that last: adding, opening, searching, the approximate index",
        "the ranker in memory, LanceDB",
        20,
        runs=(("speed",), ("memory",), ("commits",), ("ivf",)),
        quick=("speed", "20000"),
    ),
    "search": Benchmark(
        "`kerashash search`, from the command to its result",
        "the import of TensorFlow",
        3,
        runs=((PHOTOGRAPH,),),
        quick=(PHOTOGRAPH, "--codes", "10000", "--repeat", "1"),
    ),
    "serving": Benchmark(
        "`kerashash serve`: latency, throughput, memory",
        "photographs encoded one by one",
        30,
        runs=((PHOTOGRAPHS,),),
        quick=(PHOTOGRAPHS, "--entries", "adalabel-cifar10-48", "--requests", "0"),
        modules=("fastapi", "uvicorn"),
    ),
    "pipeline": Benchmark(
        "images a second of the input pipeline",
        "the rate of the backbone",
        3,
        quick=(),
        data="mirflickr25k",
    ),
    "exports": Benchmark(
        "codes of exported entries, row by row",
        "`encode`, for SavedModel, ONNX, LiteRT and OpenVINO",
        240,
        quick=("ddh-ldl-movie-128",),
        modules=("onnxruntime", "ai_edge_litert", "openvino", "tf2onnx"),
    ),
    "cluster": Benchmark(
        "photographs to codes by actors of Ray, and their commits",
        "one actor with one core",
        30,
        runs=((PHOTOGRAPHS,),),
        quick=(PHOTOGRAPHS, "--images", "256", "--rounds", "1"),
        modules=("ray",),
    ),
    "scale": Benchmark(
        "what a million photographs and codes cost", "nothing", 3, ((PHOTOGRAPHS,),)
    ),
    "gpu": Benchmark(
        "compiled programs of searches, measures and training steps, run by JAX",
        "CuPy, PyTorch, the speed of a copy",
        10,
        runs=(),
        modules=("jax",),
    ),
    "heads": Benchmark(
        "training of heads on cached features",
        "the same loop in PyTorch",
        3,
        quick=("--rows", "5000", "--turns", "1"),
        modules=("torch",),
    ),
    "baselines": Benchmark(
        "seconds of the shallow baselines on 50,000 rows",
        "faiss's iterative quantization",
        15,
        quick=("--rows", "2000", "--columns", "64", "--bits", "16"),
    ),
    "itq": Benchmark(
        "retrieval and loss of iterative quantization on CIFAR-10's features",
        "faiss's",
        4,
        quick=("--seeds", "1"),
        modules=("faiss",),
        data="cifar10",
    ),
    "ddh_ldl_speed": Benchmark(
        "training of DDH-LDL", "an eager loop of the same", 12, data="ldl/movie"
    ),
    "dcdh_memory": Benchmark(
        "memory of training DCDH at the size of NUS-WIDE",
        "both updates of B",
        4,
        quick=("--num-train", "5000", "--patterns", "500"),
    ),
    "neighbours": Benchmark(
        "time and memory of DDH's neighbourhoods of CIFAR-10",
        "nothing",
        5,
        data="cifar10",
    ),
    "cifar10": Benchmark(
        "mAP of the methods on CIFAR-10, over seeds",
        "ablations, iterative quantization",
        240,
        runs=tuple((method,) for method in ("dsre", "dcdh", "adalabel", "ddh")),
        data="cifar10",
    ),
    "fine_tune": Benchmark(
        "features of CIFAR-10 of fine-tuned backbones, for cifar10",
        "nothing",
        600,
        runs=(),
        data="cifar10",
    ),
    "flowers17": Benchmark(
        "accuracy of an SVM on codes of Flowers-17", "the SVM on features", 10, runs=()
    ),
    "ddh_ldl": Benchmark(
        "six measures of DDH-LDL on Movie, over seeds",
        "ablations, AA-kNN, the mean",
        120,
        data="downloads/manual/ldl/Movie.mat",
    ),
    "dcdh_discrete_step": Benchmark(
        "mAP of DCDH by the moment at which B is solved",
        "both moments",
        5,
        quick=("--seeds", "0"),
    ),
    "dsre_codes": Benchmark(
        "mAP of DSRE by the moment at which B is solved",
        "two moments",
        5,
        quick=("--seeds", "0"),
    ),
}


def listing() -> str:
    """Describe the benchmarks, and say what this machine lacks of what they need."""
    lines = []
    for name, benchmark in BENCHMARKS.items():
        needs = benchmark.needs(None)
        missing = {"--photographs FOLDER": "", "arguments": ""}
        described = [
            need + ("" if there else missing.get(need, " (missing)"))
            for need, there in needs.items()
        ]
        lines += [
            f"{name:20}{benchmark.measures}",
            f"{'':20}beside {benchmark.beside}; {benchmark.minutes} minutes",
        ]
        if described:
            lines.append(f"{'':20}needs {', '.join(described)}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run what the command line names.

    Args:
        words: list of str or None; the words of the command line. None is this
            process's.

    Returns:
        int; 0 if all runs have succeeded.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--all", action="store_true", help="run all that can be run")
    parser.add_argument("--quick", action="store_true", help="run the short forms")
    parser.add_argument("--plot", action="store_true", help="only draw the figures")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        help="folder of the results (default: benchmarks/results, or benchmarks/quick)",
    )
    parser.add_argument("--photographs", type=pathlib.Path, help="folder of JPEG files")
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="NAME ... [ARGUMENT ...]"
    )
    options = parser.parse_args(words)
    names = [*itertools.takewhile(lambda word: word in BENCHMARKS, options.words)]
    arguments = options.words[len(names) :]
    if options.words and (options.all or not names):
        received = shlex.join(options.words)
        parser.error(f"Expected --all or names of benchmarks. Received: {received}")
    if arguments and (len(names) > 1 or options.quick):
        received = shlex.join(arguments)
        parser.error(f"Only a single benchmark takes arguments. Received: {received}")
    output = options.output or FOLDER / ("quick" if options.quick else "results")
    if not (options.all or names or options.plot):
        print(listing())
        return 0
    if options.plot:
        if options.all or names:
            parser.error("--plot runs no benchmarks.")
        _draw(output)
        return 0
    ran, failed = False, []
    for name in names or BENCHMARKS:
        runs, reason = _runs(name, arguments, options)
        if reason:
            print(f"{name} is left out: {reason}.", flush=True)
            failed += [] if options.all else [name]
        for run in runs:
            print(f"\npython -m benchmarks {shlex.join([name, *run])}", flush=True)
            status = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", *run],
                env={**os.environ, "BENCHMARKS_OUTPUT": str(output.resolve())},
            ).returncode
            failed += [name] if status else []
            ran |= not {"-h", "--help"} & {*run}
    if ran:
        _draw(output)
    if failed:
        print(f"Not run, or failed: {', '.join(dict.fromkeys(failed))}.")
    return 1 if failed else 0


def _draw(output: pathlib.Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:  # on a lent accelerator
        return
    from benchmarks import plots

    for path in plots.draw(output):
        print(f"drawn: {path}")


def _runs(
    name: str, arguments: list[str], options: argparse.Namespace
) -> tuple[list[list[str]], str]:
    """The arguments of the runs of a benchmark, or why there are none."""
    benchmark = BENCHMARKS[name]
    if arguments:
        return [arguments], ""
    chosen = (benchmark.quick,) if options.quick else benchmark.runs
    if chosen == (None,):
        return [], "it has no short form"
    needs = benchmark.needs(options.photographs)
    missing = [need for need, there in needs.items() if not there]
    if missing:
        return [], f"it needs {', '.join(missing)}"
    folder = options.photographs
    if folder is None:
        values = {}
    else:
        photograph = next(iter(sorted(folder.rglob("*.jpg"))), None)
        if photograph is None:
            return [], f"there is no JPEG file in {folder}"
        values = {PHOTOGRAPHS: str(folder), PHOTOGRAPH: str(photograph)}
    return [[values.get(word, word) for word in run or ()] for run in chosen], ""


if __name__ == "__main__":
    sys.exit(main())
