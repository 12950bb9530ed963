"""One connection, from its scope to its last message.

The middlewares call what is in here. To follow one connection, read these files in this order:

    a handshake       `handshake`, `admission` with `gate` and `passthrough`, `session`; whether it
                      becomes a guarded socket: `terms`, `holdings`, `listing`
    a refusal         `rejection`, `answers`, `budget`, `closing`, `valve`
    an open socket    `guard`; a response that is a stream: `stream`; what both have: `endable`
    its end           `endable.end`, which a timer calls when the login expires, and `policies` when
                      it is revoked; `phases`, `closing`; without a guard, `handshake.close`
    a new credential  `refresh_messages`, `refreshing`, `session`, `renewal`
    a deploy          `draining`

`live` is what a session knows of the socket; `report` tells the observers of all that happens.
"""
