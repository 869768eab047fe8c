"""Print means over seeds of the results of benchmarks/cifar10.py as a Markdown table.

python benchmarks/summary.py benchmarks/results/dsre_cifar10.csv ...
"""

import collections
import csv
import statistics
import sys

groups = collections.defaultdict(lambda: collections.defaultdict(list))
for path in sys.argv[1:]:
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            key = row["method"], row["variant"], row["features"], row["metric"]
            groups[key][int(row["bits"])].append(float(row["value"]))
for (method, variant, features, metric), by_bits in groups.items():
    print(f"| {method} | {variant} | {features} | {metric} |", end="")
    for bits, values in sorted(by_bits.items()):
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        mean = statistics.fmean(values)
        print(f" {bits}: {mean:.4f}{spread} ({len(values)}) |", end="")
    print()
