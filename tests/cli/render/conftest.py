"""The predictions that the tests of printing share with those of reports."""

from tests.report.conftest import failure, hostile, prediction

__all__ = ["failure", "hostile", "prediction"]
