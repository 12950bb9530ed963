"""What a refused client is told: the table, and how it is put over HTTP."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from cases import cases

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    GRAPHQL_CLOSE_CODES,
    ConfigurationError,
    Denied,
    Reason,
)
from asgi_wsauth.denial import (
    InsufficientScope,
    SaidNothing,
    advice,
    check_close_codes,
    close_code,
    http_refusal,
)

# Written out once more, and not read from the enum: a client's code depends on every one of these.
TABLE = {
    Reason.MISSING: ("token_missing", 1008, 401, "stop"),
    Reason.MALFORMED: ("token_malformed", 1008, 400, "stop"),
    Reason.INVALID: ("token_invalid", 1008, 401, "stop"),
    Reason.EXPIRED: ("token_expired", 4001, 401, "refresh"),
    Reason.KEYS_UNAVAILABLE: ("keys_unavailable", 4001, 503, "refresh, with backoff"),
    Reason.REVOKED: ("token_revoked", 4004, 401, "log in again"),
    Reason.FORBIDDEN: ("forbidden", 1008, 403, "stop"),
    Reason.ORIGIN: ("origin_not_allowed", 1008, 403, "stop"),
    Reason.THROTTLED: ("too_many_failures", 1013, 429, "retry later"),
    Reason.TOO_MANY_CONNECTIONS: ("too_many_connections", 1013, 429, "retry later"),
    Reason.UNAVAILABLE: ("verifier_unavailable", 1013, 503, "retry later"),
    Reason.RESTARTING: ("server_restarting", 1012, 503, "retry later"),
    Reason.ERROR: ("internal_error", 1011, 500, "retry later"),
}

DAPHNE = {
    Reason.MISSING: 3000,
    Reason.MALFORMED: 3000,
    Reason.INVALID: 3000,
    Reason.FORBIDDEN: 3003,
    Reason.ORIGIN: 3003,
    Reason.THROTTLED: 4013,
    Reason.TOO_MANY_CONNECTIONS: 4013,
    Reason.UNAVAILABLE: 4013,
    Reason.RESTARTING: 4012,
    Reason.ERROR: 4011,
}

every_reason = cases("reason", Reason, ids=lambda reason: reason.name)


def challenge(denied: Denied) -> bytes | None:
    return dict(http_refusal(denied)[1]).get(b"www-authenticate")


class TestReason:
    def test_the_table_is_the_one_that_is_documented(self) -> None:
        built = {r: (r.phrase, r.close_code, r.http_status, r.advice) for r in Reason}
        assert built == TABLE

    @every_reason
    def test_a_phrase_fits_into_a_close_frame(self, reason: Reason) -> None:
        """RFC 6455 section 5.5: a control frame has 125 bytes, two of which are the code."""
        assert 0 < len(reason.phrase.encode()) <= 123

    @every_reason
    def test_a_phrase_is_ascii_words_for_machines(self, reason: Reason) -> None:
        assert set(reason.phrase) <= set("abcdefghijklmnopqrstuvwxyz_")

    @every_reason
    def test_the_phrase_finds_the_reason_again(self, reason: Reason) -> None:
        assert Reason(reason.phrase) is reason

    def test_no_two_reasons_share_a_phrase(self) -> None:
        assert len({reason.phrase for reason in Reason}) == len(Reason)


class TestAdvice:
    """What a client should do after its socket was closed."""

    @every_reason
    def test_the_phrase_says_it_whatever_the_code(self, reason: Reason) -> None:
        for code in (reason.close_code, DAPHNE.get(reason, 4001), 4499, 1006):
            assert advice(code, reason.phrase) == reason.advice

    @cases(
        ("code", "what"),
        [
            (1008, "stop"),
            (3000, "stop"),
            (3003, "stop"),
            (4001, "refresh"),
            (4004, "log in again"),
            (1013, "retry later"),
            (1011, "retry later"),
            (4013, "retry later"),
            (4012, "retry later"),
            (4011, "retry later"),
            (1001, "retry later"),
            (1012, "retry later"),
            (1006, "refresh once, then retry later"),
            (1000, "stop"),
            (1005, "stop"),
            (4999, "stop"),
        ],
    )
    @cases("words", ["", "bye", "TOKEN_EXPIRED"])
    def test_without_a_phrase_the_code_says_it(self, code: int, what: str, words: str) -> None:
        assert advice(code, words) == what

    @every_reason
    def test_daphnes_codes_say_the_same_as_the_tables(self, reason: Reason) -> None:
        """It sends no reason."""
        expected = "refresh" if reason is Reason.KEYS_UNAVAILABLE else reason.advice
        assert advice(DAPHNE.get(reason, reason.close_code)) == expected
        assert advice(reason.close_code) == expected


class TestDenied:
    def test_carries_what_it_was_given(self) -> None:
        denied = Denied(Reason.THROTTLED, "6 failures", retry_after=2.5)
        assert (denied.reason, denied.detail, denied.retry_after) == (
            Reason.THROTTLED,
            "6 failures",
            2.5,
        )

    def test_needs_no_more_than_a_reason(self) -> None:
        denied = Denied(Reason.MISSING)
        assert (denied.detail, denied.retry_after) == ("", None)

    @cases(
        ("denied", "text"),
        [
            (Denied(Reason.INVALID), "token_invalid"),
            (Denied(Reason.INVALID, "no key has its kid"), "token_invalid: no key has its kid"),
        ],
    )
    def test_reads_as_its_phrase_and_its_detail(self, denied: Denied, text: str) -> None:
        assert str(denied) == text

    def test_comes_from_another_process_as_it_was_raised(self) -> None:
        """Where a verifier does its work in a pool of processes."""
        denied = pickle.loads(pickle.dumps(Denied(Reason.THROTTLED, "6 failures", 2.5)))
        assert (denied.reason, denied.detail) == (Reason.THROTTLED, "6 failures")
        assert denied.retry_after == 2.5
        lacking = pickle.loads(pickle.dumps(InsufficientScope(["chat:read", "chat:write"])))
        assert (lacking.reason, lacking.scopes) == (Reason.FORBIDDEN, ("chat:read", "chat:write"))

    @cases(
        ("reason", "refused_for"), [((), Reason.ERROR), ((Reason.UNAVAILABLE,), Reason.UNAVAILABLE)]
    )
    def test_what_broke_is_named_and_not_quoted(
        self, reason: tuple[Reason, ...], refused_for: Reason
    ) -> None:
        """The text of a stranger's exception may hold the credential; its traceback is kept."""
        broken = TimeoutError("no answer to GET /?token=abc")
        denied = Denied.because("load_user", broken, *reason)
        assert (denied.reason, denied.detail) == (refused_for, "load_user: TimeoutError")
        assert denied.__cause__ is broken

    @cases("reason", ["token_invalid", 1008, None])
    def test_takes_a_reason_and_nothing_like_one(self, reason: Any) -> None:
        with pytest.raises(TypeError, match="reason must be a Reason, got"):
            Denied(reason)

    def test_a_lack_of_scope_is_forbidden_and_names_the_scopes(self) -> None:
        denied = InsufficientScope(["chat:read", "chat:write"])
        assert isinstance(denied, Denied)
        assert denied.reason is Reason.FORBIDDEN
        assert denied.scopes == ("chat:read", "chat:write")
        assert "chat:read chat:write" in denied.detail

    def test_a_configuration_error_is_a_value_error_and_no_refusal(self) -> None:
        assert issubclass(ConfigurationError, ValueError)
        assert not issubclass(ConfigurationError, Denied)


class TestHttpRefusal:
    @every_reason
    def test_has_the_status_of_the_table_and_the_phrase_as_json(self, reason: Reason) -> None:
        status, headers, body = http_refusal(Denied(reason, "only for the log"))
        assert status == TABLE[reason][2]
        assert json.loads(body) == {"error": TABLE[reason][0]}
        assert dict(headers)[b"content-type"] == b"application/json"
        assert dict(headers)[b"content-length"] == str(len(body)).encode()
        assert dict(headers)[b"cache-control"] == b"no-store"

    @every_reason
    def test_the_detail_stays_out_of_it(self, reason: Reason) -> None:
        _, headers, body = http_refusal(Denied(reason, "only for the log"))
        assert b"only for the log" not in body + b"".join(v for _, v in headers)

    @every_reason
    def test_each_header_stands_once(self, reason: Reason) -> None:
        names = [name for name, _ in http_refusal(Denied(reason, retry_after=1))[1]]
        assert len(set(names)) == len(names)

    @every_reason
    def test_rfc_6750_a_401_and_no_other_status_has_a_challenge(self, reason: Reason) -> None:
        assert (challenge(Denied(reason)) is not None) is (TABLE[reason][2] == 401)

    def test_rfc_6750_nothing_given_is_told_no_error_code(self) -> None:
        assert challenge(Denied(Reason.MISSING)) == b"Bearer"

    @cases("reason", [Reason.INVALID, Reason.EXPIRED, Reason.REVOKED])
    def test_rfc_6750_a_bad_token_is_told_invalid_token(self, reason: Reason) -> None:
        assert challenge(Denied(reason)) == b'Bearer error="invalid_token"'

    def test_rfc_6750_a_lack_of_scope_is_told_which_ones_are_needed(self) -> None:
        denied = InsufficientScope(["chat:read", "chat:write"])
        assert http_refusal(denied)[0] == 403
        expected = b'Bearer error="insufficient_scope", scope="chat:read chat:write"'
        assert challenge(denied) == expected

    @cases(
        ("seconds", "sent"),
        [
            (None, None),
            (30, b"30"),
            (29.01, b"30"),
            (0.001, b"1"),
            (0, b"0"),
            (-3.5, b"0"),
        ],
    )
    def test_retry_after_is_whole_seconds_and_never_too_early(
        self, seconds: float | None, sent: bytes | None
    ) -> None:
        _, headers, _ = http_refusal(Denied(Reason.THROTTLED, retry_after=seconds))
        assert dict(headers).get(b"retry-after") == sent


class TestCloseCodes:
    def test_the_defaults_are_the_table(self) -> None:
        assert check_close_codes({}) == {reason: row[1] for reason, row in TABLE.items()}

    def test_what_is_configured_is_laid_over_the_table(self) -> None:
        codes = check_close_codes({Reason.EXPIRED: 4100})
        assert codes == {r: 4100 if r is Reason.EXPIRED else row[1] for r, row in TABLE.items()}

    @cases("code", [1000, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999])
    def test_a_code_that_an_endpoint_may_send_is_taken(self, code: int) -> None:
        assert check_close_codes({Reason.INVALID: code})[Reason.INVALID] == code

    @cases(
        "code",
        [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65536, True, False],
    )
    def test_a_code_that_no_endpoint_may_send_is_refused(self, code: int) -> None:
        with pytest.raises(
            ConfigurationError, match=rf"^close_codes must .*, got {code!r} for INVALID$"
        ) as caught:
            check_close_codes({Reason.INVALID: code})
        assert "from 4000 to 4999" in str(caught.value)

    @cases("code", ["4001", None, 4001.5, 4001.0, math.nan])
    def test_what_is_no_whole_number_is_refused(self, code: Any) -> None:
        with pytest.raises(ConfigurationError, match="close_codes"):
            check_close_codes({Reason.INVALID: code})

    @cases("key", ["token_expired", "EXPIRED", 4001, None])
    def test_a_key_that_is_no_reason_is_refused(self, key: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^close_codes must have reasons as"):
            check_close_codes({key: 4001})

    @every_reason
    def test_the_defaults_may_be_sent(self, reason: Reason) -> None:
        assert check_close_codes({reason: reason.close_code})[reason] == reason.close_code


class TestDaphne:
    def test_the_codes_are_the_ones_that_are_documented(self) -> None:
        assert dict(DAPHNE_CLOSE_CODES) == DAPHNE

    @every_reason
    def test_daphne_can_send_every_one(self, reason: Reason) -> None:
        """autobahn, below Daphne, refuses to send anything but 1000 and 3000 to 4999."""
        assert 3000 <= check_close_codes(DAPHNE_CLOSE_CODES)[reason] <= 4999


class TestGraphQL:
    def test_the_codes_are_those_of_its_protocol(self) -> None:
        """In part, 4400 plus what the status of the table has above 400."""
        codes = check_close_codes(GRAPHQL_CLOSE_CODES)
        changed = {reason: code for reason, code in codes.items() if code >= 4400}
        assert changed == {**GRAPHQL_CLOSE_CODES}
        assert changed.pop(SaidNothing) == 4408
        for reason, code in changed.items():
            assert isinstance(reason, Reason)
            assert code == 4000 + reason.http_status

    @cases(
        ("close_codes", "code"),
        [({}, 1008), ({Reason.MISSING: 4401}, 4401), (GRAPHQL_CLOSE_CODES, 4408)],
    )
    def test_who_says_nothing_is_missing_and_may_have_a_code_of_its_own(
        self, close_codes: Any, code: int
    ) -> None:
        codes = check_close_codes(close_codes)
        assert close_code(SaidNothing("late"), codes) == code
        assert close_code(Denied(Reason.MISSING), codes) == codes[Reason.MISSING]

    def test_that_code_is_checked_too(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"^close_codes must .* got 99 for SaidNothing"
        ):
            check_close_codes({SaidNothing: 99})

    @cases("code", [4400, 4401, 4403, 4408])
    def test_without_a_phrase_they_say_the_same_as_the_tables(self, code: int) -> None:
        assert advice(code) == "stop"


@cases("retry_after", [float("inf"), float("nan"), -float("inf")])
def test_a_time_that_is_none_is_not_sent(retry_after: float) -> None:
    _, headers, _ = http_refusal(Denied(Reason.THROTTLED, retry_after=retry_after))
    assert b"retry-after" not in dict(headers)


def test_a_detail_of_another_kind_is_told_as_text() -> None:
    detail: Any = ValueError("no such key")
    assert Denied(Reason.INVALID, detail).detail == "no such key"
