"""The one place where the version of all FastServe distributions is written."""

__version__ = "0.1.0"
