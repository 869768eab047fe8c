"""The tables of the papers, with every method on the same features and splits."""

from kerashash.comparison.results import compare
from kerashash.comparison.tables import Part, Row, Table, list_tables, table

__all__ = ["Part", "Row", "Table", "compare", "list_tables", "table"]
__dir__ = __all__.copy  # what completion offers
