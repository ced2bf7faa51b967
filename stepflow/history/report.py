"""A run's history as one HTML file that fetches nothing and needs no script to be read."""

from stepflow.history.records import History


def report_html(history: History) -> str:
    raise NotImplementedError
