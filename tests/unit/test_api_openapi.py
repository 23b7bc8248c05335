"""The OpenAPI document says what the API does: each operation with its summary, examples and problems."""

import re
from typing import Any

import pytest

from api.app import create_app
from api.docs import endpoints as docs
from api.services import Services

#: What somebody asks who is nobody yet.
COMING_IN = {
    ("/api/v1/session", "post"),
    ("/api/v1/session/oidc", "get"),
    ("/api/v1/session/oidc/callback", "get"),
}
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Services(pool=None, moment=None)).openapi()  # type: ignore[arg-type]


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(p, m, o) for p, item in document["paths"].items() for m, o in item.items() if m in METHODS]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        at: Any = document
        for key in schema["$ref"][2:].split("/"):
            at = at[key]
        schema = at
    return schema


def has_example(document: dict[str, Any], media: dict[str, Any]) -> bool:
    return "example" in media or bool(resolved(document, media["schema"]).get("examples"))


def test_every_operation_is_told(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) >= 17
    for path, method, operation in found:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        refusals = {s: a for s, a in operation["responses"].items() if s >= "400"}
        assert refusals, where
        for status, answer in refusals.items():
            assert list(answer["content"]) == ["application/problem+json"], f"{where} {status}"
            schema = resolved(document, answer["content"]["application/problem+json"]["schema"])
            assert schema["title"] == "Problem", f"{where} {status}"


def test_every_body_and_answer_has_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {})
        answers = [m for a in operation["responses"].values() for m in a.get("content", {}).values()]
        for media in [*body.values(), *answers]:
            assert has_example(document, media), f"{method} {path}: {media}"


def test_everything_but_health_and_the_way_in_needs_a_token_or_a_session(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if path == "/health" or (path, method) in COMING_IN:
            assert "security" not in operation
        else:
            assert operation["security"] == [{"HTTPBearer": []}, {"Session": []}], f"{method} {path}"
            assert {"401", "403", "429"} <= operation["responses"].keys()


def test_operation_ids_are_unique_and_schemas_used(document: dict[str, Any]) -> None:
    ids = [o["operationId"] for _, _, o in operations(document)]
    assert len(ids) == len(set(ids))
    assert "HTTPValidationError" not in str(document)


def test_examples_keep_to_their_schemas() -> None:
    """Each model with an example takes it."""
    from api.accounts.endpoints import (
        AccountBody,
        AccountMade,
        AccountModel,
        AccountPage,
        RolesAnswer,
        RolesBody,
        StateBody,
    )  # fmt: skip
    from api.announcements.endpoints import AcceptBody, AnnouncementModel, AnnouncementPage
    from api.approvals.models import ApprovalModel, ApprovalPage, ApproveBody, RefuseBody
    from api.campaigns.models import (
        CampaignBody,
        CampaignDetail,
        CampaignMeterDetail,
        CampaignMeterPage,
        CampaignPage,
        ReasonBody,
    )
    from api.events.models import EventPage
    from api.groups.endpoints import (
        GroupBody,
        GroupModel,
        GroupPage,
        MemberPage,
        MembersBody,
        MembersChanged,
        TitleBody,
    )
    from api.load_curves.models import LoadCurve, PointLoadCurve
    from api.meters.endpoints import MeterDetail, MeterModel, MeterPage, StateChange
    from api.network.models import (
        BranchModel,
        ImportAnswer,
        MoveBody,
        NodeDetail,
        NodeModel,
        NodePage,
        TreeModel,
    )  # fmt: skip
    from api.points.models import ExchangeBody, InstallationBody, PointBody, PointDetail, PointPage, RatioBody
    from api.programs.models import ProgramBody, ProgramPage
    from api.reads.endpoints import ReadAnswer, ReadAsk
    from api.registers.endpoints import Registers
    from api.schedules.models import (
        RunList,
        ScheduleBody,
        ScheduleDetail,
        SchedulePage,
        StartedModel,
    )
    from api.session.models import (
        LogIn,
        NewPassword,
        Password,
        RecoveryCodes,
        TotpCode,
        TotpRemoval,
        TotpSecret,
        Who,
    )  # fmt: skip
    from api.tags.endpoints import BulkAnswer, BulkBody, TagList, TagsModel
    from api.tokens.endpoints import TokenBody, TokenList, TokenMade
    from api.workers.endpoints import WorkerModel, WorkerPage

    for model in (
        LoadCurve, PointLoadCurve, MeterDetail, MeterModel, MeterPage, StateChange, ExchangeBody,
        InstallationBody, PointBody, PointDetail, PointPage, RatioBody, ReadAnswer, ReadAsk, Registers,
        TokenBody, TokenList, TokenMade, AcceptBody, AnnouncementModel, AnnouncementPage, BranchModel,
        ImportAnswer, MoveBody, NodeDetail, NodeModel, NodePage, TreeModel,
        GroupBody, GroupModel, GroupPage, MemberPage, MembersBody, MembersChanged, TitleBody, RunList,
        ScheduleBody, ScheduleDetail, SchedulePage, StartedModel, BulkAnswer, BulkBody,
        TagList, TagsModel,
        EventPage, WorkerModel, WorkerPage, LogIn, Who,
        NewPassword, Password, RecoveryCodes, TotpCode, TotpRemoval, TotpSecret, AccountBody, AccountMade,
        AccountModel, AccountPage, RolesAnswer, RolesBody, StateBody,
        EventPage, WorkerModel, WorkerPage, ApprovalModel, ApprovalPage, ApproveBody, RefuseBody,
        CampaignBody, CampaignDetail, CampaignMeterDetail, CampaignMeterPage, CampaignPage, ReasonBody,
        ProgramBody, ProgramPage,
    ):  # fmt: skip
        examples: Any = model.model_config["json_schema_extra"]
        for example in examples["examples"]:
            model.model_validate(example)


def test_documentation_needs_no_network() -> None:
    for name in ("index.html", "docs.js", "docs.css"):
        text = docs._page(name).body.decode()
        assert not re.search(r"https?://", text), name
        assert "innerHTML" not in text
    page = docs._page("index.html").body.decode()
    assert not re.search(r"<script(?![^>]*src=)", page), "the policy allows no inline script"
    assert " style=" not in page
