"""Reading the `test` section of a flow."""

from stepflow.flow.fields import Fields
from stepflow.flow.model import Expected, ExpectedError, TestCase, TestSection
from stepflow.flow.words import closest, shorten
from stepflow.records import ErrorCode, Json

_TEST_KEYS = ("configFile", "config", "cases")
_CASE_KEYS = ("name", "description", "input", "output")
_CODES = [code.value for code in ErrorCode]


def read_test_section(flow: Fields) -> TestSection | None:
    value = flow.object("test")
    if value is None:
        return None
    fields = Fields(value, (*flow.at, "test"), flow.findings)
    fields.warn_unknown(_TEST_KEYS, {"stepflowConfig": "did you mean `config`?"}, silent=("stepflow_config",))
    if fields.value.get("config") is not None and fields.value.get("stepflow_config") is not None:
        message = "`stepflow_config` is another name of `config`, and both are there"
        fields.refuse("stepflow_config", message, "keep `config`")
    return TestSection(
        config_file=fields.string("configFile"),
        config=_config(fields),
        cases=tuple(_case(Fields(case, path, flow.findings)) for case, path in fields.objects("cases")),
    )


def _config(fields: Fields) -> Json:
    config, alias = fields.object("config"), fields.object("stepflow_config")
    return alias if config is None else config


def _case(fields: Fields) -> TestCase:
    fields.warn_unknown(_CASE_KEYS, {"expected": "did you mean `output`?", "expect": "did you mean `output`?"})
    fields.require("input", nullable=True)
    return TestCase(
        name=fields.required_string("name"),
        description=fields.string("description"),
        input=fields.value.get("input"),
        output=_expected(fields),
    )


def _expected(case: Fields) -> Expected | None:
    value = case.object("output")
    if value is None:
        return None
    fields = Fields(value, (*case.at, "output"), case.findings)
    fields.require("outcome")
    outcome = fields.string("outcome")
    if outcome == "success":
        fields.warn_unknown(("outcome", "result"), {})
        fields.require("result", nullable=True)
        return Expected(result=value.get("result"))
    if outcome == "failed":
        fields.warn_unknown(("outcome", "error"), {})
        fields.require("error")
        error = fields.object("error")
        return None if error is None else Expected(error=_error(Fields(error, (*fields.at, "error"), case.findings)))
    if outcome is not None:
        fields.refuse("outcome", f"there is no outcome `{shorten(outcome)}`", "write success or failed")
    return None


def _error(fields: Fields) -> ExpectedError:
    fields.warn_unknown(("code", "message", "data"), {})
    code = fields.required_string("code")
    if code and code not in _CODES:
        near = closest(code, _CODES)
        remedy = f"did you mean {near}?" if near else f"the codes are {', '.join(_CODES)}"
        fields.refuse("code", f"there is no error code `{shorten(code)}`", remedy)
    return ExpectedError(code=code, message=fields.required_string("message"), data=fields.value.get("data"))
