"""The API's own document against the running service: what schemathesis makes of it is answered as it says.

Every operation is asked with values that fit the document and with values that do not: no answer is an error
of the server, none has a status, a type or a shape that the document does not tell.
"""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

#: Revoking the token that we ask with would end everything else.
_LEFT_OUT = ("DELETE", "/api/v1/tokens/{token_id}")
_EXAMPLES = 12
#: A schema cannot say that a cursor is one of ours, or that a meter is there: what fits may be refused.
_NOT_ASKED = (positive_data_acceptance,)


@pytest.mark.storage
@pytest.mark.timeout(600)
def test_every_operation_answers_as_the_document_says(service: Any, subtests: pytest.Subtests) -> None:
    service.start(meters=3)
    said = service.until("Ctrl-C stops it")
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    token = service.command("token", "create", "everything", "--scope", "admin")["secret"]
    document = schemathesis.openapi.from_url(
        f"{url[0]}/openapi.json", headers={"Authorization": f"Bearer {token}"}
    )
    asked = 0
    for found in document.get_all_operations():
        operation = found.ok()
        if (operation.method.upper(), operation.path) == _LEFT_OUT:
            continue
        asked += 1
        with subtests.test(operation.label):

            @given(case=operation.as_strategy())
            @settings(
                max_examples=_EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            def check(case: Case) -> None:
                case.call_and_validate(
                    headers={"Authorization": f"Bearer {token}"}, excluded_checks=_NOT_ASKED
                )

            check()
    assert asked >= 30
