"""The test cases of a flow as pytest items: `flow.yaml::case name`."""

from collections.abc import Iterable
from typing import Any

import pytest

from stepflow.errors import StepflowError
from stepflow.flow.document import place
from stepflow.flow.read import read_flow
from stepflow.testing.flowtests import CaseReport, FileReport, case_names, is_flow, run_file
from stepflow.testing.settings import components_of, config_file_of
from stepflow.testing.yaml_block import yaml_block


class FlowFile(pytest.File):
    """A flow whose cases run in one batch, when the first of them is wanted."""

    _report: FileReport | None = None

    def collect(self) -> "Iterable[FlowCase]":
        if not is_flow(self.path):
            return
        try:
            flow = read_flow(self.path)
        except StepflowError as error:
            raise self.CollectError(str(error)) from None
        for index, name in enumerate(case_names(flow)):
            yield FlowCase.from_parent(self, name=name, index=index)

    def report(self) -> FileReport:
        if self._report is None:
            wanted = [item.name for item in self.session.items if item.parent is self]
            self._report = run_file(
                self.path,
                default_config=config_file_of(self.config),
                components=components_of(self.config),
                case_names=wanted,
            )
        return self._report


class FlowCase(pytest.Item):
    def __init__(self, *, index: int, **given: Any) -> None:
        super().__init__(**given)
        self._index = index

    def runtest(self) -> None:
        assert isinstance(self.parent, FlowFile)
        report = self.parent.report()
        if report.error is not None:
            raise CaseFailed(str(report.error))
        case = next(case for case in report.cases if case.index == self._index)
        if case.status != "passed":
            raise CaseFailed(f"{self._place(report)}: {_told(case, self.path.name)}")

    def _place(self, report: FileReport) -> str:
        line = place(report.flow.origin, ("test", "cases", self._index))[0] if report.flow is not None else 0
        return f"{self.nodeid.partition('::')[0]}:{line}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CaseFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, f"{self.path.name}: {self.name}"


class CaseFailed(AssertionError):
    """A test case of a flow did not come out as it says."""


def _told(case: CaseReport, file: str) -> str:
    match case.status:
        case "failed":
            return f"the outcome is not the one expected:\n{case.diff}"
        case "unexpected-new":
            return (
                f"no output is recorded for this case yet; it came out as\n{yaml_block(case.actual)}"
                f"record it with: stepflow test {file} --case '{case.name}' --update"
            )
        case _:
            return case.message
