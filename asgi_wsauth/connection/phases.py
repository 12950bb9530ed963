"""The phases of a guarded socket, and all that can happen to it. In any other phase than those it
starts from, a step changes nothing.

A stream over HTTP has the same: it is accepted when the response is known for one, and answered
when that is complete.

    step     from                   to           what happened
    -------  ---------------------  -----------  ----------------------------------------
    start    ENTERING               HANDSHAKING  the app gets the handshake
    accept   HANDSHAKING            OPEN         the app accepts
    answer   HANDSHAKING, OPEN      ANSWERED     the app closes, or answers with HTTP
    undo     OPEN, ANSWERED         HANDSHAKING  the server would not send that
    leave    HANDSHAKING, OPEN      LEFT         the client is gone
    end      HANDSHAKING, OPEN      CLOSING      the login is over; so no close was sent before
    closed   CLOSING                CLOSED       the close was sent, for the only time
    finish   any                    OVER         the app is done
"""

from __future__ import annotations

from enum import IntEnum, auto

__all__ = ["STEPS", "Phase"]


class Phase(IntEnum):
    ENTERING = auto()
    HANDSHAKING = auto()
    OPEN = auto()
    ANSWERED = auto()
    LEFT = auto()
    CLOSING = auto()
    CLOSED = auto()
    OVER = auto()


STEPS = {
    **{(phase, "finish"): Phase.OVER for phase in Phase},
    (Phase.ENTERING, "start"): Phase.HANDSHAKING,
    (Phase.HANDSHAKING, "accept"): Phase.OPEN,
    (Phase.HANDSHAKING, "answer"): Phase.ANSWERED,
    (Phase.HANDSHAKING, "leave"): Phase.LEFT,
    (Phase.HANDSHAKING, "end"): Phase.CLOSING,
    (Phase.OPEN, "answer"): Phase.ANSWERED,
    (Phase.OPEN, "undo"): Phase.HANDSHAKING,
    (Phase.ANSWERED, "undo"): Phase.HANDSHAKING,
    (Phase.OPEN, "leave"): Phase.LEFT,
    (Phase.OPEN, "end"): Phase.CLOSING,
    (Phase.CLOSING, "closed"): Phase.CLOSED,
}
"""The phase after each step, by the phase before it and the step's name."""
