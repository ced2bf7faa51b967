"""`stepflow test [PATH…]`: the test cases that flows carry."""

from collections.abc import Sequence
from typing import Any

import click

from stepflow.cli.apps import load_apps
from stepflow.cli.failure import COULD_NOT_RUN, problem_lines, say, tell
from stepflow.cli.options import concurrency_option, engine_options, examples
from stepflow.cli.streams import results_stream
from stepflow.cli.yaml_text import yaml_text
from stepflow.errors import ProblemsError
from stepflow.plan.suggest import did_you_mean
from stepflow.testing.flowtests import (
    MAX_CONCURRENCY,
    CaseReport,
    FileReport,
    case_names,
    discover,
    run_file,
    update_file,
)


@click.command("test", epilog=examples("stepflow test flow.yaml --app components:app"))
@click.argument("paths", type=click.Path(), metavar="[PATH]...", nargs=-1)
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Only this case; repeat it for more.")
@click.option("--update", is_flag=True, help="Write what came of failed and new cases into the flows' files.")
@click.option("--diff/--no-diff", default=True, help="Show what differs, or the whole outcome.", show_default=True)
@engine_options
@concurrency_option
@click.pass_context
def command(ctx: click.Context, /, paths: tuple[str, ...], cases: tuple[str, ...], **options: Any) -> None:
    """Run the test cases written in flows.

    A PATH is a flow's file, or a directory with all flows below it. Exit code 0 when every case passed.
    """
    files = discover(paths)
    if not files:
        tell("No workflow files found")
        return
    apps = load_apps(options["apps"])
    limit = options["max_concurrency"] or MAX_CONCURRENCY
    reports = []
    for file in files:
        with results_stream():  # what components print is not part of the report
            report = run_file(file, config=options["config"], case_names=cases, components=apps, max_concurrency=limit)
        reports.append(report)
        for line in report_lines(report, diff=options["diff"]):
            tell(line)
        if options["update"] and (updated := update_file(report)):
            say(f"{report.path}: recorded {', '.join(updated)}")
    refuse_unknown(cases, reports)
    tell("\n".join(["", *summary_lines(reports)]))
    if (failures := failed(reports)) > 0:
        say(f"error: {failures} test(s) failed")
        ctx.exit(COULD_NOT_RUN)


def report_lines(report: FileReport, *, diff: bool) -> list[str]:
    if report.error is not None:
        problems = problem_lines(report.error.problems) if isinstance(report.error, ProblemsError) else []
        return [f"{report.path}: error", *(f"  {line}" for line in problems or [str(report.error)])]
    if not report.cases:
        return [f"{report.path}: Skipped (no test cases)"]
    lines = [f"{report.path}: {report.count('passed')}/{len(report.cases)} passed"]
    for case in report.cases:
        if case.status != "passed":
            lines += [f"  {line}" for line in case_lines(case, diff=diff)]
    return lines


def case_lines(case: CaseReport, *, diff: bool) -> list[str]:
    match case.status:
        case "error":
            return [f"{case.name}: error: {case.message}"]
        case "failed" if diff:
            return [f"{case.name}: failed{_reason(case)}", *(f"  {line}" for line in case.diff.splitlines())]
        case "failed":
            said = f"{case.name}: failed; it gave"
        case _:
            said = f"{case.name}: has no output to compare with (--update records it); it gave"
    return [said, *(f"  {line}" for line in yaml_text(case.actual).splitlines())]


def _reason(case: CaseReport) -> str:
    """What failed where the case expected a result: the diff shows only what both outcomes speak of."""
    error = case.actual.get("error") if isinstance(case.actual, dict) else None
    return f" with {error['code']}: {error['message']}" if isinstance(error, dict) else ""


def summary_lines(reports: Sequence[FileReport]) -> list[str]:
    skipped = sum(report.error is None and not report.cases for report in reports)
    errored = sum(report.error is not None for report in reports)
    broken = sum(report.count("error") for report in reports)
    lines = [
        "=== Test Summary ===",
        f"Files tested: {len(reports) - skipped - errored}",
        f"Files skipped: {skipped}",
        f"Total test cases: {sum(len(report.cases) for report in reports)}",
        f"Passed: {sum(report.count('passed') for report in reports)}",
        f"Failed: {sum(report.count('failed') + report.count('unexpected-new') for report in reports)}",
    ]
    return lines + [
        f"{name}: {count}" for name, count in (("Files errored", errored), ("Execution errors", broken)) if count
    ]


def failed(reports: Sequence[FileReport]) -> int:
    """Cases that did not pass, and files that could not be tried."""
    cases = sum(len(report.cases) - report.count("passed") for report in reports)
    return cases + sum(report.error is not None for report in reports)


def refuse_unknown(names: Sequence[str], reports: Sequence[FileReport]) -> None:
    known = [name for report in reports if report.flow is not None for name in case_names(report.flow)]
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            meant = f"; did you mean {near!r}?" if near else ""
            raise click.UsageError(f"no test case is named {name!r}{meant}", click.get_current_context())
