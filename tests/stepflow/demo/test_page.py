import json
import re

import pytest
from msgspec.structs import replace

from stepflow.demo.audit import Audit, Cut, read_flows
from stepflow.demo.closing import closing_lines, cut_line
from stepflow.demo.components import (
    Copies,
    Copy,
    FileFacts,
    Function,
    Measures,
    Package,
    RankedFunction,
    Ranking,
    Report,
)
from stepflow.demo.page import audit_page
from stepflow.demo.watch import Span
from stepflow.records import ErrorCode, Failed, ItemResult, Succeeded

EVIL = "</script><b onclick=x>&amp;.py"
WRONG = Failed(ErrorCode.COMPONENT_FAILED, "SyntaxError: <b>")


@pytest.fixture
def audit() -> Audit:
    measures = Measures(True, 3, 0.5, 2, Function("f", 1, 40))
    facts = [
        FileFacts(EVIL, "p<q", 100, 50, measures, [], "newer"),
        FileFacts("b.py", "p<q", 9, 5, measures, [], "3.7"),
    ]
    report = Report(
        ranking=Ranking(2, 55, 6, 1, 1, [RankedFunction(EVIL, "f<g", 40)]),
        copies=Copies(1, [Copy(25, [f"{EVIL} skip", "b.py skip"])]),
        packages=[Package("p<q", 2, 55, 6, 0.5, 1)],
    )
    return Audit(
        subject="Python 3.11.7 and 1 package",
        pace="0.1 s, 30 files/s, 2 processes",
        files=[EVIL, "b.py", "lost.py"],
        results=[ItemResult(0, Succeeded({})), ItemResult(1, Succeeded({})), ItemResult(2, WRONG)],
        facts=facts,
        report=report,
        flows=read_flows(),
        work=[
            ("data 1", Span(0, 0, 0, 1)),
            ("data 2", Span(1, 0, 0, 2)),
            ("python 1", Span(0, 2, 1, 3, WRONG)),
            ("python 1", Span(1, 1, 3, 9)),
        ],
        spans={"rank": [Span(0, 0, 0, 4)]},
        tolerated=1,
        failed=1,
    )


def data_of(page: str) -> dict[str, list[list[object]]]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, list[list[object]]] = json.loads(found[1])
    return data


def test_nothing_is_fetched(audit: Audit) -> None:
    page = audit_page(audit)

    assert "://" not in page
    assert not re.search(r"<(link|img|iframe|script)[^>]*\b(src|href)=", page)


def test_names_cannot_become_markup(audit: Audit) -> None:
    page = audit_page(audit)

    assert EVIL not in page
    assert "SyntaxError: <b>" not in page
    assert page.count("</script>") == 2
    assert data_of(page)["items"][0] == EVIL


def test_every_file_is_a_dot_and_every_span_a_bar(audit: Audit) -> None:
    data = data_of(audit_page(audit))

    assert data["points"] == [[50, 0.5, 0, EVIL, "p<q", 3, 2], [5, 0.5, 0, "b.py", "p<q", 3, 2]]
    assert data["rows"] == ["data 1", "data 2", "python 1"]
    assert data["spans"] == [[0, 0, 0, 1, 0, 0], [1, 0, 0, 2, 1, 0], [2, 2, 1, 2, 0, 1], [2, 1, 3, 6, 1, 0]]
    assert [name for name, _ in data["steps"]] == ["read", "measure", "oldest", "signature"]


def test_both_flows_are_drawn_with_counts(audit: Audit) -> None:
    page = audit_page(audit)

    assert page.count("<svg ") == 2
    assert "2 × p50 2 ms" in page
    assert "1 × p50 2 ms · 1 failed" in page


def test_starting_a_process_makes_no_file_slow(audit: Audit) -> None:
    slowest = audit_page(audit).split("<h2>Slowest files</h2>")[1].split("</table>")[0]

    assert '<td>b.py</td><td class="n">6</td>' in slowest
    assert "lost.py" not in slowest


def test_failed_files_stand_before_tolerated_failures(audit: Audit) -> None:
    page = audit_page(audit)

    assert page.index("the file failed") < page.index("oldest</small>")


def test_an_audit_of_nothing_has_a_page_too(audit: Audit) -> None:
    nothing = Audit(
        subject="Python 3.11.7 and 0 packages",
        pace="0.0 s, 0 files/s, 2 processes",
        files=[],
        results=[],
        facts=[],
        report=Report(Ranking(0, 0, 0, 0, 0, []), Copies(0, []), []),
        flows=read_flows(),
        work=[],
        spans={},
        tolerated=0,
        failed=0,
    )

    assert "<p>None.</p>" in audit_page(nothing)
    assert closing_lines(nothing)[2:4] == ("  longest functions     none", "  copied between files    0")
    assert closing_lines(nothing)[4] == "  not killed: all files were done before the kill could come"


def test_the_closing_table_has_its_layout(audit: Audit) -> None:
    first, counts, longest, copied, _ = closing_lines(audit)

    assert first == f"{'Python 3.11.7 and 1 package: 3 files, 55 lines':<72} 0.1 s, 30 files/s, 2 processes"
    assert counts == "  need Python 3.8 or newer 1   tolerated failures 1   failed 1   not Python here 1"
    assert longest == f"  longest functions     40 {EVIL} f<g"
    assert copied == f"  copied between files    1: {EVIL} skip = b.py skip (25 lines) · …"


CUT = Cut(at=890, total=2224, resumed_s=0.31, lost=0, repeated=4, in_flight=(), compared=2224, is_as_uncut=True)


def test_the_line_of_the_kill_tells_what_was_counted() -> None:
    said = cut_line(CUT)

    assert said == (
        "killed at 890 of 2,224 → resumed in 0.3 s · lost 0 · steps repeated 4 (in flight at the kill)"
        " · identical to an uncut run: yes"
    )


def test_the_line_of_the_kill_hides_nothing() -> None:
    said = cut_line(replace(CUT, lost=2, compared=300, is_as_uncut=False))

    assert "lost 2 ·" in said
    assert said.endswith("identical to an uncut run of 300: no")


def test_the_page_tells_of_the_kill(audit: Audit) -> None:
    assert "The run was killed at 890 of 2,224 → " in audit_page(replace(audit, cut=CUT))
