"""A verifier whose verdicts are told in short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import anyio
from handshakes import judge

from asgi_wsauth import JWTVerifier, Principal

__all__ = ["ADMITTED", "Judging"]

ADMITTED = "admitted"


class Judging:
    """What has a verifier, and judges tokens with it."""

    verifier: JWTVerifier

    async def judge(self, token: str) -> Any:
        """ADMITTED, the reason of the refusal, or None for "not mine"."""
        verdict = await judge(self.verifier, token)
        return ADMITTED if isinstance(verdict, Principal) else verdict

    async def judge_all(self, tokens: Iterable[str]) -> Counter[Any]:
        """The verdicts on many tokens at once."""
        verdicts: Counter[Any] = Counter()

        async def judge_one(token: str) -> None:
            verdicts[await self.judge(token)] += 1

        async with anyio.create_task_group() as group:
            for token in tokens:
                group.start_soon(judge_one, token)
        return verdicts
