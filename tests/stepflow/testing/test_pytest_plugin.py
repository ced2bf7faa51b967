"""The pytest plugin, as somebody's own tests use it."""

import subprocess
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]

FLOW = """\
steps:
  - id: ask
    component: /llm/complete
    input: {q: {$input: q}}
    onError: {action: retry, maxRetries: 2}
output: {$step: ask}
"""

RATE_LIMITED = """\
import stepflow

def test_rate_limited(stepflow_engine):
    stepflow_engine.script("/llm/complete", [stepflow.RetryAfter(36_000), {"text": "ok"}])
    result = stepflow_engine.run("flow.yaml", {"q": "hi"})
    assert result.output == {"text": "ok"}
    assert stepflow_engine.calls("/llm/complete") == [{"q": "hi"}, {"q": "hi"}]
    assert stepflow_engine.clock.elapsed_s == 36_000
"""

COMPONENTS = """\
import stepflow

app = stepflow.Components()

@app.component("/double")
def double(input: int) -> int:
    return 2 * input
"""


def files(pytester: pytest.Pytester, **texts: str) -> None:
    for name, text in texts.items():
        stem, _, suffix = name.rpartition("_")
        path = pytester.path / f"{stem.replace('__', '/')}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


def test_the_example_of_the_first_hour_passes_without_a_warning(pytester: pytest.Pytester) -> None:
    files(pytester, flow_yaml=FLOW, test_flow_py=RATE_LIMITED)

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=1)
    assert "warnings summary" not in result.stdout.str()


def test_each_test_has_an_engine_of_its_own(pytester: pytest.Pytester) -> None:
    files(pytester, flow_yaml=FLOW, test_flow_py=RATE_LIMITED + RATE_LIMITED.replace("rate_limited", "again"))

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=2)


def test_a_component_that_nobody_plays_fails_the_test_by_name(pytester: pytest.Pytester) -> None:
    test = """\
        def test_it(stepflow_engine):
            stepflow_engine.run("flow.yaml", {"q": 1})
    """
    files(pytester, flow_yaml=FLOW, test_flow_py=test)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UnscriptedError: the step 'ask' calls /llm/complete*", "test_flow.py:2: *"])


def test_an_assertion_shows_the_values(pytester: pytest.Pytester) -> None:
    test = """\
        def test_it(stepflow_engine):
            stepflow_engine.script("/llm/complete", [{"text": "no"}])
            assert stepflow_engine.run("flow.yaml", {"q": 1}).output == {"text": "yes"}
    """
    files(pytester, flow_yaml=FLOW, test_flow_py=test)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*{'text': 'no'} == {'text': 'yes'}*"])


def test_a_failing_suite_shows_the_values(pytester: pytest.Pytester) -> None:
    test = """\
        import pytest
        from stepflow.stores.memory import MemoryBackend
        from stepflow.testing.suites import StoreSuite

        class Forgetful(MemoryBackend):
            async def get(self, run_id):
                return None

        class TestForgetful(StoreSuite):
            @pytest.fixture
            def backend(self):
                return Forgetful()
    """
    files(pytester, test_store_py=test)

    result = pytester.runpytest_subprocess("-k", "found_as_it_was_begun and asyncio")

    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*assert None == RunRecord(*"])


def test_the_ini_file_names_the_application_and_the_configuration(pytester: pytest.Pytester) -> None:
    flow = """\
        steps:
          - {id: a, component: /double, input: {$input: $}}
          - {id: b, component: /more/double, input: {$step: a}}
          - {id: c, component: /plain/noop, input: {$step: b}}
        output: {$step: c}
    """
    config = """\
        plugins: {builtin: {type: builtin}}
        routes: {/plain: [{plugin: builtin}]}
    """
    test = """\
        def test_it(stepflow_engine):
            assert stepflow_engine.run("flow.yaml", 3).output == 12
    """
    ini = """\
        [pytest]
        stepflow_app =
            components_of_ini:app
            /more=components_of_ini:app
        stepflow_config = config.yml
    """
    files(
        pytester,
        flow_yaml=flow,
        config_yml=config,
        pytest_ini=ini,
        components_of_ini_py=COMPONENTS,
        tests__test_flow_py=test,
    )

    result = pytester.runpytest_subprocess("-W", "error", "tests")

    result.assert_outcomes(passed=1)


def test_a_fixture_gives_the_application_too(pytester: pytest.Pytester) -> None:
    test = COMPONENTS + textwrap.dedent("""
        import pytest

        @pytest.fixture
        def stepflow_components():
            return app

        def test_it(stepflow_engine):
            flow = {"steps": [{"id": "a", "component": "/double", "input": {"$input": "$"}}], "output": {"$step": "a"}}
            assert stepflow_engine.run(flow, 3).output == 6
    """)
    files(pytester, test_flow_py=test)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1)


def test_hours_pass_beside_a_component_in_a_process(pytester: pytest.Pytester) -> None:
    components = COMPONENTS.replace('"/double"', '"/double", process=True')
    flow = """\
        steps:
          - {id: a, component: /double, input: 3, timeout: 60}
          - {id: b, component: /flaky, onError: {action: retry}}
        output: [{$step: a}, {$step: b}]
    """
    test = """\
        import stepflow

        def test_it(stepflow_engine):
            stepflow_engine.script("/flaky", [stepflow.RetryAfter(3600), "later"])
            assert stepflow_engine.run("flow.yaml").output == [6, "later"]
            assert stepflow_engine.clock.elapsed_s == 3600
    """
    ini = "[pytest]\nstepflow_app = in_process:app\n"
    files(pytester, flow_yaml=flow, in_process_py=components, pytest_ini=ini, test_flow_py=test)

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("line", ["nowhere:app", "components", "os:path"])
def test_an_application_that_is_not_there_is_told_by_its_line(pytester: pytest.Pytester, line: str) -> None:
    files(
        pytester,
        pytest_ini=f"[pytest]\nstepflow_app = {line}\n",
        test_flow_py="def test_it(stepflow_engine): pass\n",
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*stepflow_app = {line}: *"])


CASES = """\
steps:
  - {id: a, component: /builtin/noop, input: {total: {$input: n}, more: 1}}
output: {$step: a}
test:
  cases:
    - name: right
      input: {n: 1}
      output: {outcome: success, result: {total: 1}}
    - name: wrong
      input: {n: 2}
      output: {outcome: success, result: {total: 3}}
    - name: new one
      input: {n: 4}
"""

FLOWS_INI = "[pytest]\ntestpaths = tests\nstepflow_flows = flows\n"


def test_the_cases_of_a_folder_of_flows_are_tests(pytester: pytest.Pytester) -> None:
    files(
        pytester,
        pytest_ini=FLOWS_INI,
        tests__test_flow_py="def test_it(): pass\n",
        flows__sum_yaml=CASES,
        flows__other_yaml="jobs: {steps: []}\n",
        elsewhere__sum_yaml=CASES,
    )

    result = pytester.runpytest_subprocess("-v", "-W", "error")

    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["flows/sum.yaml::right PASSED*", "flows/sum.yaml::wrong FAILED*"])
    result.stdout.fnmatch_lines(
        [
            "flows/sum.yaml:9: the outcome is not the one expected:",
            "--- expected",
            "*",
            "-  total: 3",
            "+  total: 2",
            "flows/sum.yaml:12: no output is recorded for this case yet; it came out as",
            "outcome: success",
            "*stepflow test sum.yaml --case 'new one' --update",
        ]
    )


def test_one_case_of_a_flow_is_run_by_its_node_id(pytester: pytest.Pytester) -> None:
    files(pytester, pytest_ini=FLOWS_INI, flows__sum_yaml=CASES)

    result = pytester.runpytest_inprocess("flows/sum.yaml::right")

    result.assert_outcomes(passed=1)


def test_a_broken_flow_is_told_with_its_place(pytester: pytest.Pytester) -> None:
    broken = CASES.replace("$step: a}\ntest", "$step: nobody}\ntest")
    files(pytester, pytest_ini=FLOWS_INI, flows__broken_yaml=broken)

    result = pytester.runpytest_inprocess("flows")

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*broken.yaml:3:*nobody*"])


def test_a_flow_that_is_not_yaml_ends_the_collection(pytester: pytest.Pytester) -> None:
    files(pytester, pytest_ini=FLOWS_INI, flows__typo_yaml="steps:\n  - {component: [}\n", flows__sum_yaml=CASES)

    result = pytester.runpytest_inprocess("flows")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*flows/typo.yaml:2:*not YAML*"])


def test_the_plugin_loads_nothing_until_it_is_asked_for() -> None:
    code = """
        import sys
        before = set(sys.modules)
        import pytest
        pytest.main(["--version", "-q"])
        import stepflow.testing.pytest_plugin
        print("\\n".join(sorted(name for name in sys.modules if name.split(".")[0] in
            ("stepflow", "ruamel", "jsonschema_rs", "click", "rich", "anyio", "msgspec", "sqlite_utils"))))
    """

    loaded = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ":".join(filter(None, sys.path))},
        timeout=240,
    ).stdout.split()

    ours = [name for name in loaded if not name[0].isdigit() and name != "pytest"]
    assert ours == ["stepflow", "stepflow.testing", "stepflow.testing.pytest_plugin"]
