"""`python -m tests.soak`: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from contextlib import ExitStack, suppress
from random import Random

from .faults import FAULTS, Weather
from .inspection import Inspection
from .load import Load
from .mint import Mint
from .report import report
from .site import Site, running
from .tally import Tally


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__package__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--rate", type=float, default=150.0, help="short visits in a second")
    parser.add_argument("--stay", type=int, default=300, help="clients that stay for some time")
    parser.add_argument("--workers", type=int, default=2, help="processes, two at least")
    names = [fault.__name__ for fault in FAULTS]
    parser.add_argument(
        "--faults",
        nargs="*",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"what may break (default: all of {', '.join(names)})",
    )
    parser.add_argument("--seed", type=int, help="to have the same choices again")
    parser.add_argument("--log", help="a file for all that goes wrong, as it happens")
    return parser.parse_args()


def _end_early_at_interrupt(weather: Weather) -> None:
    """The first Ctrl-C; the second one ends all."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        weather.over.set()

    loop.add_signal_handler(signal.SIGINT, end)


async def _soak(
    site: Site, options: argparse.Namespace, tally: Tally, random: Random
) -> tuple[Weather, Inspection]:
    mint = Mint(site.issuer, random)
    faults = [fault for fault in FAULTS if fault.__name__ in options.faults]
    weather = Weather(faults, site, mint, random, min(1.0, options.minutes / 3), tally.note)
    load = Load(site, mint, tally, random)
    inspection = Inspection(site, load, tally)
    _end_early_at_interrupt(weather)
    await inspection.begin()
    tally.began = time.monotonic()
    watching = asyncio.create_task(inspection.watch())
    clients = asyncio.create_task(load.run(options.rate, options.stay))
    breaking = asyncio.create_task(weather.rage() if faults else weather.over.wait())
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(weather.over.wait(), 60 * options.minutes)
    weather.over.set()
    await breaking
    load.over.set()
    await clients
    tally.ended = time.monotonic()
    watching.cancel()
    await inspection.end()
    return weather, inspection


def main() -> int:
    options = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends, too, what was started here
    seed = Random().randrange(1_000_000) if options.seed is None else options.seed
    with ExitStack() as stack:
        log = stack.enter_context(open(options.log, "w")) if options.log else None
        tally = Tally(log)
        site = stack.enter_context(running(max(2, options.workers)))
        weather, inspection = asyncio.run(_soak(site, options, tally, Random(seed)))
    print(f"seed {seed}")
    report(tally, weather, inspection)
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
