"""``make test-bare``: do ``make demo`` and ``make test`` work on a Debian with Python, make and git, and nothing else?

It makes such a root file system with debootstrap, copies the checkout into it as it is now, and tries there what
somebody does who has just cloned it. It takes root, 4 GB of disk and about ten minutes. ``MIRROR`` names another mirror
of Debian than debootstrap's own.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

RELEASE = "bookworm"
CHECKOUT = Path(__file__).parents[2]

CONFIGURATION = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/local/share/ca-certificates",
    "/etc/pip.conf",
    "/etc/xdg/pip",
)
"""How this machine reaches the registries of packages, which is not what is tried here."""

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | {
    name: value
    for name, value in os.environ.items()
    # A folder of packages on this machine is not there.
    if (name.startswith("PIP_") or name.lower().endswith("_proxy")) and not Path(value).is_dir()
}


def say(what: str) -> None:
    print(f"== {what}", flush=True)


def make_root(root: Path) -> None:
    """Make the bare system, with this machine's way to the registries and the checkout in it."""
    mirror = [os.environ["MIRROR"]] if "MIRROR" in os.environ else []
    debootstrap = ["debootstrap", "--variant=minbase", "--include=python3,make,git", RELEASE, str(root), *mirror]
    subprocess.run(debootstrap, check=True, stdout=subprocess.DEVNULL)
    for path in map(Path, CONFIGURATION):
        copy = root / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, copy, dirs_exist_ok=True)
        elif path.exists():
            shutil.copyfile(path, copy)
    settings = subprocess.run(["apt-config", "dump", "Acquire"], check=True, capture_output=True, text=True).stdout
    ours = re.findall(r"^Acquire::(?:https?|Check-).*\n", settings, re.MULTILINE)
    (root / "etc/apt/apt.conf.d/99this-machine").write_text("".join(ours))
    # Debian starts a server that it installs. Ours would have the ports of this machine's own.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    copy_checkout(root / "checkout")


def copy_checkout(folder: Path) -> None:
    """Copy what git has or would take: no environment, and nothing else that was built here."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)


def inside(root: Path, *command: str) -> list[str]:
    """Return the command that runs another in the bare system.

    Its mounts and its processes are in name spaces of their own: they end with it, and nothing is left to be unmounted.
    """
    names = ["unshare", "--mount", "--pid", "--kill-child", f"--root={root}", "--mount-proc", "--wd=/checkout"]
    return [*names, *command]


def try_without_root(root: Path) -> None:
    """Who may not install a package reads in one line which one is missing, and no half-made environment is left."""
    command = inside(root, "su", "--shell=/bin/sh", "--command=make demo", "nobody")
    done = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ***")]
    assert lines == ["please install: python3-venv (on Debian, as root: apt-get install python3-venv)"], lines
    assert not (root / "checkout/.venv").exists()


def leave_half_an_environment(root: Path) -> None:
    """What the machine does by itself: an environment without pip."""
    done = subprocess.run(
        inside(root, "python3", "-m", "venv", ".venv"), check=False, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert (root / "checkout/.venv/bin/python").is_symlink()


def try_demo(root: Path) -> None:
    """``make demo`` serves its first page."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = inside(root, "make", "demo", f"ARGS=--port {port}")
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.startswith("The demo is on"):
                    break
            else:
                sys.exit("make demo ended before it served")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
                assert b"Keep me signed in" in page.read()
        finally:
            process.kill()


def try_tests(root: Path) -> None:
    """``make test`` passes, with every server and the browser: in CI a missing one is a failure."""
    subprocess.run(inside(root, "make", "test"), check=True, env=ENVIRONMENT | {"CI": "true"})


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("make test-bare takes root: it makes a file system with debootstrap, and changes into it")
    if shutil.which("debootstrap") is None:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "debootstrap", "debian-archive-keyring"], check=True)
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # whoever is not root enters it too
        for step in (make_root, try_without_root, leave_half_an_environment, try_demo, try_tests):
            say(step.__name__.replace("_", " "))
            step(root)
    say("both work on a bare machine")


main()
