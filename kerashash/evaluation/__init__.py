"""Retrieval evaluation in which every choice behind an mAP has a name.

Two programs can report an "mAP" of the same codes and labels and disagree by tenths:
short codes give many equal distances, so the order of ties matters, and so does the
number that the sum of precisions is divided by. kerashash makes each choice explicit.

The average precision of one query is ::

    (sum of precision(j) over the ranks j that hold a relevant item) / denominator

where precision(j) is the share of relevant items among the first j, and an item is
relevant if it shares at least one label with the query. mAP is the mean over queries.
Five choices remain:

``at``: R, the number of ranks that count.
    - an integer: the first R ranks, reported as "mAP@R";
    - None: the whole database, reported as "mAP@ALL".

``denominator``: what the sum is divided by.
    - "relevant": the number of relevant items in the database;
    - "retrieved": the number of relevant items among the first R ranks;
    - "min": the smaller of R and the number of relevant items, which is the largest
      value of the sum: a perfect ranking scores 1;
    - "first": as "min", but the sum runs over the first min(R, relevant) relevant
      items of the whole ranking, however low they rank.

    With ``at=None`` all four give the same number.

``ties``: the order of items at the same Hamming distance.
    - "expected": the mean over all orders of tied items, in closed form;
    - "best", "worst": relevant items come first, or last, among tied items;
    - "stable": by index in the database.

    "first", and "retrieved" with R below the database size, allow only "stable": their
    quotient has no closed form, nor is it largest with the relevant items first.

``empty``: what a query with a denominator of 0 counts for. It has no relevant items or,
with "retrieved", none among the first R ranks.
    - "zero": an average precision of 0;
    - "skip": nothing; the mean leaves the query out.

``database``: which codes of the database are ranked (a choice of `evaluate`).
    - "encoded": the network's codes of all images;
    - "learned": for the training images the codes that were learned in training, for
      all other images the network's.

`PROTOCOLS` names the choices of published papers; `evaluate` returns the choices it
made beside the numbers.
"""

from kerashash.evaluation import label_distribution
from kerashash.evaluation.average_precision import (
    CONVENTIONS,
    area_under_radius_curve,
    mean_average_precision,
    precision_recall,
    reranked_mean_average_precision,
)
from kerashash.evaluation.choices import PROTOCOLS
from kerashash.evaluation.model_evaluation import evaluate, evaluate_codes
from kerashash.evaluation.pairwise_labels import pairwise_label_precision
from kerashash.evaluation.svm import svm_accuracy

__all__ = [
    "CONVENTIONS",
    "PROTOCOLS",
    "area_under_radius_curve",
    "evaluate",
    "evaluate_codes",
    "label_distribution",
    "mean_average_precision",
    "pairwise_label_precision",
    "precision_recall",
    "reranked_mean_average_precision",
    "svm_accuracy",
]
__dir__ = __all__.copy  # what completion offers
