"""Retrieval evaluation, with every choice that papers leave open made by name.

A number called mAP says little: codes of few bits tie, and the order of ties alone
moves it by tenths; so does what the sum of precisions is divided by. Here every mAP
has

- ``at``: R, the ranks that count; None is all of them, "mAP@ALL";
- ``denominator``: "relevant" items in the database, "retrieved" relevant items in the
  first R ranks, "min" of R and the relevant items, or "first": the sum then runs over
  the first min(R, relevant) relevant items of the whole ranking;
- ``ties``: "expected", the mean over all orders of tied items; "best" and "worst"
  order; or "stable", by index in the database;
- ``empty``: a query without relevant items counts "zero", or "skip" leaves it out;
- ``database``: codes are "encoded" by the network, or the training images have the
  codes "learned" in training.

Relevant means: shares at least one label.
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
from kerashash.evaluation.svm import svm_accuracy

__all__ = [
    "CONVENTIONS",
    "PROTOCOLS",
    "area_under_radius_curve",
    "evaluate",
    "evaluate_codes",
    "label_distribution",
    "mean_average_precision",
    "precision_recall",
    "reranked_mean_average_precision",
    "svm_accuracy",
]
