#!/usr/bin/env python3
"""How long containers take to start and end, in one run on one machine: dunnage, docker, podman, runc, crun.

    bench/run.py [NAME…]    rows whose names contain one of the words; all without

Needs root. Installs docker.io, podman, crun, runc and busybox-static by apt where they are missing; the docker daemon is one of
its own, in a network namespace of its own. The binary is taken from $DUNNAGE. $ROUNDS is how often each command runs (20): they
take turns, so that what else the machine does meets all of them, with $PAUSE seconds (0.05) in between. The figures are medians, and the least in brackets.
"""
import json, os, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from common import DUNNAGE, DockerDaemon, clear, install, run

ROUNDS = int(os.environ.get("ROUNDS", "20"))
# Between two programs, in seconds.
PAUSE = float(os.environ.get("PAUSE", "0.05"))
PACKAGES = {"dockerd": "docker.io", "podman": "podman", "crun": "crun", "runc": "runc", "busybox": "busybox-static"}


class Machine:
    """The programs, each with the same image, and what stops them again."""

    def __init__(self, work):
        self.work = work
        self.ours = {**os.environ, "DUNNAGE_ROOT": str(work / "dunnage")}
        run(DUNNAGE, "bootstrap", "--from", "busybox", "base", env=self.ours)
        self.archive = work / "base.tar"
        run(DUNNAGE, "save", "-o", self.archive, "base", env=self.ours)
        run(DUNNAGE, "run", "--rm", "base", "true", env=self.ours)
        self.bundle = self.make_bundle()
        self.podman = ["podman", "--root", work / "podman", "--runroot", work / "podman-run", "--storage-driver", "overlay",
                       "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        run(*self.podman, "load", "-i", self.archive)
        # Its bridge and rules are those of a network namespace of its own.
        alone = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$0" "$@"']
        self.docker = DockerDaemon(work / "docker", before=alone)
        run("/usr/bin/docker", "load", "-i", self.archive, env=self.docker.env)

    def make_bundle(self):
        bundle = self.work / "bundle"
        rootfs = bundle / "rootfs"
        rootfs.mkdir(parents=True)
        export = self.work / "export.tar"
        name = run(DUNNAGE, "create", "base", "true", env=self.ours).stdout.strip()
        run(DUNNAGE, "export", "-o", export, name, env=self.ours)
        run(DUNNAGE, "rm", name, env=self.ours)
        run("tar", "-xf", export, "-C", rootfs)
        run("runc", "spec", cwd=bundle)
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["true"])
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def commands(self, network):
        """Name, command and environment of each program that knows this network."""
        flags = ["--network", network] if network == "none" else []
        image = ["--rm", *flags]
        yield "dunnage", [DUNNAGE, "run", *image, "base", "true"], self.ours
        yield "docker", ["/usr/bin/docker", "run", *image, "base", "true"], self.docker.env
        if network == "none":
            limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
            # crun knows no machine with both versions of control groups: it does without any.
            for runtime, without in (("crun", ["--cgroups=disabled"]), ("runc", [])):
                podman = [*self.podman, "--runtime", shutil.which(runtime), "run", *limits, *without]
                yield f"podman+{runtime}", [*podman, *image, "localhost/base", "true"], None
            yield "runc", ["runc", "run", "--bundle", self.bundle, "bench-runc"], None
            yield "crun", ["crun", "--cgroup-manager=disabled", "run", "--bundle", self.bundle, "bench-crun"], None

    def stop(self):
        self.docker.stop()


def seconds(command, env):
    begun = time.monotonic()
    run(*command, env=env)
    return time.monotonic() - begun


def one_after_the_other(machine, network):
    commands = []
    for name, command, env in machine.commands(network):
        # The first one fills caches, and tells what this machine is not for.
        tried = run(*command, check=name == "dunnage", env=env)
        if tried.returncode:
            print(f"  {name:<14} does not run here: {tried.stderr.strip().splitlines()[-1][-90:]}")
        else:
            commands.append((name, command, env))
    times = {name: [] for name, _, _ in commands}
    for _ in range(ROUNDS):
        for name, command, env in commands:
            # What the kernel still takes apart of the one before is not this one's.
            time.sleep(PAUSE)
            times[name].append(seconds(command, env))
    ours = statistics.median(times["dunnage"])
    for name, all_of_it in times.items():
        middle = statistics.median(all_of_it)
        ratio = "" if name == "dunnage" else f"{middle / ours:7.1f}x"
        print(f"  {name:<14} {middle * 1000:9.1f} ms [{min(all_of_it) * 1000:.1f}] {ratio}", flush=True)


def at_once(machine, count=50):
    command = [DUNNAGE, "run", "--rm", "--network", "none", "base", "true"]
    begun = time.monotonic()
    for _ in range(count):
        run(*command, env=machine.ours)
    sequence = time.monotonic() - begun
    begun = time.monotonic()
    running = [subprocess.Popen(command, env=machine.ours, stderr=subprocess.PIPE) for _ in range(count)]
    failed = [process for process in running if process.wait()]
    together = time.monotonic() - begun
    print(f"  in sequence {sequence:.2f} s, at once {together:.2f} s, {len(failed)} failed")


def resident(pids):
    """Bytes in memory of processes, each page's part of those that share it."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            total += int(line.split()[1]) * 1024 if line.startswith("Pss:") else 0
    return total


def detached(machine, count=100):
    def dunnage(*words):
        return run(DUNNAGE, *words, env=machine.ours).stdout.split()

    before = set(os.listdir("/proc"))
    names = [dunnage("run", "-d", "--network", "none", "base", "sleep", "1000")[0] for _ in range(count)]
    time.sleep(2)
    monitors = []
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit() and entry not in before):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if len(words) > 1 and words[1] == b"container-monitor":
            monitors.append(pid)
    own = [int(line.split()[1]) for pid in monitors for line in Path(f"/proc/{pid}/status").read_text().splitlines()
           if line.startswith("VmRSS")]
    print(f"  {len(monitors)} monitors: {resident(monitors) / 1e6:.0f} MB in all, {statistics.median(own) / 1024:.1f} MB resident each")
    dunnage("rm", "-f", *names)


def main():
    wanted = sys.argv[1:]
    install(PACKAGES)
    work = Path(tempfile.mkdtemp(prefix="dunnage-run.", dir="/var/tmp"))
    machine = Machine(work)
    rows = [
        ("run --rm --network none", lambda: one_after_the_other(machine, "none")),
        ("run --rm, bridge", lambda: one_after_the_other(machine, "bridge")),
        ("50 containers", lambda: at_once(machine)),
        ("100 detached", lambda: detached(machine)),
    ]
    try:
        for name, row in rows:
            if not wanted or any(word in name for word in wanted):
                print(name, flush=True)
                row()
    finally:
        machine.stop()
        clear(work)


if __name__ == "__main__":
    main()
