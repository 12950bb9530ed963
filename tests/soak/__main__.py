"""`python -m tests.soak`: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from contextlib import ExitStack, suppress
from random import Random

from .faults import Weather
from .inspection import Inspection
from .load import Load
from .mint import Mint
from .report import report
from .site import Site, running
from .tally import Tally


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__package__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--rate", type=float, default=120.0, help="short visits in a second")
    parser.add_argument("--stay", type=int, default=150, help="clients that stay for some time")
    parser.add_argument("--workers", type=int, default=2, help="processes, two at least")
    parser.add_argument("--calm", action="store_true", help="nothing breaks")
    parser.add_argument("--seed", type=int, help="to have the same choices again")
    parser.add_argument("--log", help="a file for all that goes wrong, as it happens")
    return parser.parse_args()


async def _soak(
    site: Site, options: argparse.Namespace, tally: Tally, random: Random
) -> tuple[Weather, Inspection]:
    mint = Mint(site.issuer, random)
    weather = Weather(site, mint, random, min(1.0, options.minutes / 3), tally.note)
    load = Load(site, mint, tally, random)
    inspection = Inspection(site, load, tally)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, weather.over.set)
    await inspection.begin()
    tally.began = time.monotonic()
    watching = asyncio.create_task(inspection.watch())
    clients = asyncio.create_task(load.run(options.rate, options.stay))
    breaking = asyncio.create_task(weather.rage() if not options.calm else weather.over.wait())
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
