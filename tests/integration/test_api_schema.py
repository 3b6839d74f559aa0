"""Every route of a serving node and of an attestor, asked what its own /openapi.json allows and what it forbids.

No answer is a fault of the server, each has the status, type and form that the document declares, and whatever failed
is a Problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keeper.devnet.cluster import Cluster, NodeProcess
from keeper.schema import Problem

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(300)]

serving = schemathesis.pytest.from_fixture("serving_document")
attesting = schemathesis.pytest.from_fixture("attesting_document")

CONFORMS = [response_schema_conformance, content_type_conformance, status_code_conformance]
FEW = settings(max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="module")
def serving_document(cluster: Cluster, session: requests.Session) -> Any:
    return _document(cluster.keeper, session)


@pytest.fixture(scope="module")
def attesting_document(cluster: Cluster, session: requests.Session) -> Any:
    return _document(cluster.attestors[0], session)


def _document(node: NodeProcess, session: requests.Session) -> Any:
    document = session.get(node.url + "/openapi.json", timeout=10).json()
    return schemathesis.openapi.from_dict(document)


@serving.parametrize()
@FEW
def test_a_serving_node_answers_as_it_says(case: Any, cluster: Cluster, session: requests.Session) -> None:
    _answers_as_it_says(case, cluster.keeper, session)


@attesting.include(path_regex="^/v1/(attest|permits|accounts|whatif)").parametrize()
@FEW
def test_an_attestor_answers_as_it_says(case: Any, cluster: Cluster, session: requests.Session) -> None:
    _answers_as_it_says(case, cluster.attestors[0], session)


def _answers_as_it_says(case: Any, node: NodeProcess, session: requests.Session) -> None:
    response = case.call(base_url=node.url, session=session, timeout=20)
    # 503 says that a chain or the attestors do not answer; what stands in it is checked like any other answer.
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        problem = Problem.model_validate(response.json())
        assert problem.code != "internal"
    if response.status_code != 405:
        case.validate_response(response, checks=CONFORMS)
