"""What the OpenAPI document says of the stop routes."""

from typing import Any

from flask_chatstop import ChatStop
from tests.support.apps import make_app
from tests.support.route import FAMILY, Door


def openapi(chatstop: ChatStop, **config: Any) -> Any:
    with make_app(chatstop, **config).test_request_context():
        return chatstop.openapi()


def test_its_openapi_agrees_with_the_published_contract() -> None:
    document = openapi(ChatStop())
    operation = document["paths"]["/v1/chat-messages/{task_id}/stop"]["post"]
    task_id = operation["parameters"][0]
    assert (task_id["name"], task_id["in"], task_id["required"]) == (
        "task_id",
        "path",
        True,
    )
    assert task_id["schema"]["type"] == "string"
    assert operation["requestBody"]["required"] is True
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert (body["type"], body["required"]) == ("object", ["user"])
    assert body["properties"]["user"]["type"] == "string"
    success = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert success["type"] == "object"
    assert success["properties"]["result"]["type"] == "string"
    scheme = document["components"]["securitySchemes"]["ApiKeyAuth"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert operation["security"] == [{"ApiKeyAuth": []}]
    assert document["openapi"].startswith("3.0")


def test_its_openapi_has_every_route_under_a_name_of_its_own() -> None:
    paths = openapi(ChatStop(routes=FAMILY))["paths"]
    assert list(paths) == [f"/v1/{route}/{{task_id}}/stop" for route in FAMILY]
    names = [path["post"]["operationId"] for path in paths.values()]
    assert len(set(names)) == 3


def test_its_openapi_tells_what_is_configured() -> None:
    document = openapi(ChatStop(), CHATSTOP_MISSING_OK=True)
    [path] = document["paths"].values()
    assert "404" not in path["post"]["responses"]
    assert "WWW-Authenticate" in path["post"]["responses"]["401"]["headers"]


def test_its_openapi_promises_nothing_of_an_authenticator_of_the_apps_own() -> None:
    [path] = openapi(ChatStop(auth=Door()))["paths"].values()
    assert "headers" not in path["post"]["responses"]["401"]
    assert "security" not in path["post"]


def test_its_openapi_has_the_way_back_to_an_answer_if_there_is_one() -> None:
    paths = openapi(ChatStop(routes=FAMILY), CHATSTOP_EVENTS="memory://")["paths"]
    follows = [f"/v1/{route}/{{task_id}}/events" for route in FAMILY]
    assert [path for path in paths if path.endswith("/events")] == follows
    operation = paths[follows[0]]["get"]
    names = [parameter["name"] for parameter in operation["parameters"]]
    assert names == ["task_id", "user", "after", "Last-Event-ID"]
    assert operation["parameters"][1]["required"] is True
    assert set(operation["responses"]) >= {"200", "204", "400", "401", "404", "405"}
    ids = [next(iter(path.values()))["operationId"] for path in paths.values()]
    assert len(set(ids)) == 6
