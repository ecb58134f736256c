"""Instructions of the worker a request, which are steady where processor time scatters. Takes valgrind::

    python benchmarks/instructions.py live
    python benchmarks/instructions.py exchange redis://localhost [--hours 24]

Each app runs under callgrind twice, for N requests and for 2 N over one connection; the difference is what N cost.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import secrets
import subprocess
import tempfile
from pathlib import Path

import exchange_over_redis as exchange
import live_request as live
from redis.asyncio import Redis
from workers import Browse, Worker, request

HERE = Path(__file__).parent
# Otherwise valgrind counts each byte that a long copy moves.
os.environ["GLIBC_TUNABLES"] = "glibc.cpu.x86_rep_movsb_threshold=1000000000"
os.environ["PYTHONHASHSEED"] = "0"


LIVE = ("session", "same request", "persistent", "not renewed")
EXCHANGE = ("one GET", "exchange")
OURS = {"persistent", "not renewed", "exchange"}


class Counted:
    """A worker under callgrind."""

    def __init__(self, *arguments: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.out = Path(self.folder.name, "callgrind.out")
        self.worker = Worker(
            *arguments, under=("valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={self.out}")
        )

    def stop(self) -> int:
        """End the worker; return how many instructions it took."""
        self.worker.stop()
        found = re.search(r"^(?:totals|summary): (\d+)", self.out.read_text(), re.MULTILINE)
        assert found is not None
        self.folder.cleanup()
        return int(found[1])


async def count_live(name: str, requests: int) -> int:
    counted = Counted(str(HERE / "live_request.py"), "--serve", name)
    cookie = await live.sign_in(counted.worker)
    if name == "same request":
        other = Worker(str(HERE / "live_request.py"), "--serve", "persistent")
        cookie = await live.sign_in(other)
        other.stop()
    await counted.worker.load(requests, live.repeat(request(cookie), is_renewed=name == "persistent"), 1)
    return counted.stop()


async def count_exchange(url: str, name: str, requests: int, hours: float, most: int) -> int:
    prefix = f"bench_{secrets.token_hex(4)}:"
    program = (str(HERE / "exchange_over_redis.py"), url, "--serve", name, "--prefix", prefix)
    counted = Counted(*program)
    browse: Browse = exchange.browse
    if name == "exchange":
        browsers = exchange.Browsers(counted.worker, hours)
        await browsers.prepare(most, connections=1)
        browse = browsers.come_back
    await counted.worker.load(requests, browse, 1)
    instructions = counted.stop()
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter(f"{prefix}*", count=1000):
            await redis.unlink(key)
    return instructions


async def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions a request.")
    parser.add_argument("what", choices=("live", "exchange"))
    parser.add_argument("url", nargs="?", default="redis://localhost")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--hours", type=float, default=24, help="for which each browser is away")
    options = parser.parse_args()
    number = options.requests
    names = LIVE if options.what == "live" else EXCHANGE
    counts = {}
    for name in names:
        if options.what == "live":
            once, twice = [await count_live(name, number * times) for times in (1, 2)]
        else:
            once, twice = [
                await count_exchange(options.url, name, number * times, options.hours, 2 * number) for times in (1, 2)
            ]
        counts[name] = (twice - once) / number
        print(f"{name:16} {counts[name]:12,.0f} instructions a request", flush=True)
    ours = [name for name in names if name in OURS]
    for one, other in itertools.product(ours, (name for name in names if name not in OURS)):
        print(f"{one} / {other}: {counts[one] / counts[other]:.3f}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} is not installed") from None
    except subprocess.SubprocessError as error:
        raise SystemExit(str(error)) from None
