import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stepflow.config import open_engine
from stepflow.config.read import load_config
from stepflow.errors import InputInvalidError, RunFailedError
from stepflow.flow.document import load_document
from stepflow.flow.identity import flow_id
from stepflow.flow.read import read_flow
from stepflow.plan.variables import variables_from_environment
from stepflow.records import ErrorCode, Json

EXAMPLE = Path(__file__).parents[2] / "examples" / "environments"
ENVIRON = {"SHOP_KEY": "a key of the live shop"}
OUTPUTS: dict[str, Json] = {
    "dev": {"sku": "lamp", "price": 7.5, "discount": 0.25},
    "prod": {"sku": "lamp", "price": 40.0, "discount": 0.0},
}


@pytest.fixture(autouse=True)
def _own_components(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = sys.modules.pop("components", None)
    yield
    sys.modules.pop("components", None)
    if before is not None:
        sys.modules["components"] = before


def _variables(environment: str, environ: Mapping[str, str] = ENVIRON) -> dict[str, Json]:
    given = load_document(EXAMPLE / f"vars.{environment}.yml").value
    assert isinstance(given, dict)
    return variables_from_environment(read_flow(EXAMPLE / "flow.yaml"), given, environ)


@pytest.mark.anyio
@pytest.mark.parametrize("environment", ["dev", "prod"])
async def test_the_same_flow_answers_for_its_environment(environment: str) -> None:
    flow = EXAMPLE / "flow.yaml"

    async with open_engine(EXAMPLE / f"config.{environment}.yml", environ=ENVIRON) as engine:
        run = await engine.submit(flow, [{"sku": "lamp"}], variables=_variables(environment))
        await run.wait()
        outputs = [result.output async for result in run.results()]

    assert outputs == [OUTPUTS[environment]]
    assert run.flow_id == flow_id(read_flow(flow))


def test_the_readme_shows_these_outputs() -> None:
    shown = re.findall(r"^# (\{.*\})$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)

    assert [json.loads(text)["result"] for text in shown] == list(OUTPUTS.values())


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_a_configuration_is_read_without_a_warning(environment: str) -> None:
    assert load_config(EXAMPLE / f"config.{environment}.yml", environ={}).warnings == ()


@pytest.mark.anyio
async def test_the_credential_of_production_comes_from_the_environment_alone() -> None:
    async with open_engine(EXAMPLE / "config.prod.yml", environ={}) as engine:
        with pytest.raises(InputInvalidError, match="shop_key"):
            await engine.run(EXAMPLE / "flow.yaml", {"sku": "lamp"}, variables=_variables("prod", {}))


@pytest.mark.anyio
async def test_an_unknown_article_is_bad_input() -> None:
    async with open_engine(EXAMPLE / "config.dev.yml", environ={}) as engine:
        with pytest.raises(RunFailedError) as raised:
            await engine.run(EXAMPLE / "flow.yaml", {"sku": "sofa"}, variables=_variables("dev"))

    assert (raised.value.code, raised.value.step) == (ErrorCode.INVALID_INPUT, "price")
