"""API keys: what may be configured, and what they let in."""

import hashlib
from typing import Any

import pytest

from flask_chatstop import ConfigurationError
from flask_chatstop.keys import ApiKeys


def test_a_mapping_names_the_app_behind_each_key() -> None:
    keys = ApiKeys({"key-1": "one", "key-2": "two", "key-3": "one"})
    found = [keys.app_of(key) for key in ("key-1", "key-2", "key-3", "key-4")]
    assert found == ["one", "two", "one", None]


def test_every_key_of_a_list_is_an_app_of_its_own() -> None:
    keys = ApiKeys(["key-1", "key-2"])
    one, two = keys.app_of("key-1"), keys.app_of("key-2")
    assert one and two and one != two
    assert "key-1" not in one
    assert one == ApiKeys(["key-1"]).app_of("key-1")


def test_a_digest_may_stand_for_a_key() -> None:
    digest = hashlib.sha256(b"key-1").hexdigest()
    keys = ApiKeys({f"sha256:{digest}": "one", f"sha256:{'0' * 64}": "two"})
    assert keys.app_of("key-1") == "one"
    assert keys.app_of(f"sha256:{digest}") is None
    assert keys.app_of(digest) is None


def test_upper_case_digits_are_a_digest_too() -> None:
    digest = hashlib.sha256(b"key-1").hexdigest().upper()
    assert ApiKeys({f"sha256:{digest}": "one"}).app_of("key-1") == "one"


@pytest.mark.parametrize("key", [None, "", b"key-1", 7, "\udfff", "é", "key-1 "])
def test_what_is_no_key_lets_nobody_in(key: Any) -> None:
    assert ApiKeys(["key-1"]).app_of(key) is None


@pytest.mark.parametrize("key", ["app-aB3._~+/-", "a" * 500, "padded==", "!$&'()*,;:@"])
def test_every_key_that_can_arrive_may_be_configured(key: str) -> None:
    assert ApiKeys([key]).app_of(key)


@pytest.mark.parametrize(
    "keys",
    [
        "one-key",
        b"one-key",
        7,
        True,
        {},
        [],
        {"": "app"},
        {"key": ""},
        {"key": None},
        {"key": 7},
        {"key": "x" * 256},
        [7],
        [None],
        {7: "app"},
        ["a=b"],
        ["a b"],
        ["kéy"],
        ["a\nb"],
        ["sha256:"],
        ["sha256:abc"],
        ["sha256:" + "g" * 64],
    ],
    ids=repr,
)
def test_what_could_never_work_is_refused(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="CHATSTOP_API_KEYS"):
        ApiKeys(keys)


def test_a_refusal_does_not_show_the_key() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ApiKeys(["good", "very=secret"])
    assert "secret" not in str(caught.value)
    assert "Key 2" in str(caught.value)
