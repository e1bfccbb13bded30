#!/usr/bin/env python3
"""Holds dunnage's transfers against docker's, podman's and skopeo's, in one run, with Debian's registry on loopback.

    bench/registry.py [NAME…]   push, pull, many (60 layers), again (a push that changes nothing)

Needs root. Installs docker.io, podman, skopeo and docker-registry by apt where they are missing, and starts a docker daemon and
registries of its own below a temporary directory, which it stops again. The binary is taken from $DUNNAGE, the rounds of a case
from $ROUNDS (3). Every tool moves the same image; each round of a push has an empty registry, each round of a pull an empty store.
"""
import os, random, shutil, socket, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from common import DUNNAGE, WITHOUT_NETWORK, DockerDaemon, clear, install, run, timed

ROUNDS = int(os.environ.get("ROUNDS", 3))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Registry:
    """Debian's docker-registry; `log` has a line for each request."""

    def __init__(self, work):
        self.directory, self.port = Path(tempfile.mkdtemp(dir=work, prefix="registry.")), free_port()
        config = self.directory / "config.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: false}}}}\n"
                          f"storage: {{filesystem: {{rootdirectory: {self.directory}/data}}, delete: {{enabled: true}}}}\n"
                          f"http: {{addr: '127.0.0.1:{self.port}', secret: bench}}\n")
        self.log = self.directory / "log"
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        sys.exit("the registry does not listen")

    def name(self, image):
        return f"localhost:{self.port}/{image}:1"

    def requests(self):
        return sum(' HTTP/1.' in line for line in self.log.read_text().splitlines())

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Dunnage:
    name = "dunnage"

    def __init__(self, work):
        self.root = work / "dunnage"
        self.env = {**os.environ, "DUNNAGE_ROOT": str(self.root)}

    def load(self, archive, name):
        run(DUNNAGE, "load", "-i", archive, env=self.env)

    def tag(self, image, name):
        run(DUNNAGE, "tag", image, name, env=self.env)

    def push(self, name):
        return [DUNNAGE, "push", "-q", name]

    def pull(self, name):
        return [DUNNAGE, "pull", "-q", name]

    def forget(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def stop(self):
        pass


class Docker:
    name = "docker"

    def __init__(self, work):
        self.daemon = DockerDaemon(work / "docker", *WITHOUT_NETWORK)
        self.env = self.daemon.env

    def load(self, archive, name):
        run("/usr/bin/docker", "load", "-i", archive, env=self.env)

    def tag(self, image, name):
        run("/usr/bin/docker", "tag", image, name, env=self.env)

    def push(self, name):
        return ["/usr/bin/docker", "push", "-q", name]

    def pull(self, name):
        return ["/usr/bin/docker", "pull", "-q", name]

    def forget(self):
        for image in set(run("/usr/bin/docker", "images", "-aq", env=self.env).stdout.split()):
            run("/usr/bin/docker", "rmi", "-f", image, check=False, env=self.env)

    def stop(self):
        self.daemon.stop()


class Podman:
    name = "podman"

    def __init__(self, work):
        self.directory, self.env = work / "podman", dict(os.environ)
        self.words = ["podman", "--root", str(self.directory / "root"), "--runroot", str(self.directory / "run"),
                      "--storage-driver", "overlay"]

    def load(self, archive, name):
        run(*self.words, "load", "-i", archive)

    def tag(self, image, name):
        run(*self.words, "tag", f"localhost/{image}:latest", name)

    def push(self, name):
        return [*self.words, "push", "-q", "--tls-verify=false", name]

    def pull(self, name):
        return [*self.words, "pull", "-q", "--tls-verify=false", name]

    def forget(self):
        run(*self.words, "rmi", "-af", check=False)

    def stop(self):
        run(*self.words, "system", "reset", "-f", check=False)


class Skopeo:
    """Moves between a registry and a directory: nothing is unpacked, and it keeps what it pulls as it is packed."""
    name = "skopeo"

    def __init__(self, work):
        self.directory, self.env, self.archive = work / "skopeo", dict(os.environ), {}
        self.directory.mkdir()

    def load(self, archive, name):
        self.archive[name] = archive

    def tag(self, image, name):
        self.archive[name] = self.archive[image]

    def push(self, name):
        return ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{self.archive[name]}", f"docker://{name}"]

    def pull(self, name):
        return ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{self.directory}/pulled"]

    def forget(self):
        shutil.rmtree(self.directory / "pulled", ignore_errors=True)

    def stop(self):
        pass


def words(count):
    """Text that compresses as logs and sources do, to two fifths; the same in every run."""
    source = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["".join(source.choice(letters) for _ in range(source.randint(2, 11))) for _ in range(8000)]
    weights = [1 / (number + 3) for number in range(8000)]
    return " ".join(source.choices(known, weights, k=count // 5)).encode()[:count]


def archive(work, name, files):
    """A docker archive of an image that dunnage builds: each file is a layer."""
    context, env = work / f"context-{name}", {**os.environ, "DUNNAGE_ROOT": str(work / "builder")}
    context.mkdir()
    lines = ["FROM scratch"]
    for file, content in files:
        with open(context / file, "wb") as out:
            for piece in content:
                out.write(piece)
        lines.append(f"COPY {file} /{file}")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    run(DUNNAGE, "build", "-q", "-t", name, context, env=env)
    path = work / f"{name}.tar"
    run(DUNNAGE, "save", "-o", path, name, env=env)
    shutil.rmtree(context)
    shutil.rmtree(work / "builder")
    return path


def big(work):
    # Farther apart than any window of a compressor reaches.
    block = words(16 << 20)
    return archive(work, "big", [("big", (block for _ in range(64)))])


def many(work):
    block = words(64 << 20)
    size = 1 << 20
    return archive(work, "many", [(f"f{number}", [block[number * size:(number + 1) * size]]) for number in range(60)])


def pushes(tool, work, path, image):
    tool.forget()
    tool.load(path, image)
    times, peak = [], 0
    for _ in range(ROUNDS):
        registry = Registry(work)
        name = registry.name(image)
        tool.tag(image, name)
        if isinstance(tool, Dunnage):
            shutil.rmtree(tool.root / "packings", ignore_errors=True)
        os.sync()
        seconds, memory = timed(tool.push(name), tool.env)
        times.append(seconds)
        peak = max(peak, memory)
        registry.stop()
    return statistics.median(times), peak


def pulls(tool, registry, image):
    times, peak = [], 0
    for _ in range(ROUNDS):
        tool.forget()
        os.sync()
        seconds, memory = timed(tool.pull(registry.name(image)), tool.env)
        times.append(seconds)
        peak = max(peak, memory)
    tool.forget()
    return statistics.median(times), peak


def again(tool, work, path, image):
    """Seconds and requests of a push of what is there."""
    tool.forget()
    tool.load(path, image)
    registry = Registry(work)
    name = registry.name(image)
    tool.tag(image, name)
    timed(tool.push(name), tool.env)
    before = registry.requests()
    seconds, memory = timed(tool.push(name), tool.env)
    requests = registry.requests() - before
    registry.stop()
    return seconds, memory, requests


def row(name, results, extra=lambda tool: ""):
    ours, peak = results["dunnage"][:2]
    text = f"{name:<28} {ours:7.2f} s {peak:4.0f} MB{extra('dunnage')}"
    for tool, result in results.items():
        if tool != "dunnage":
            text += f"   {tool} {result[0]:7.2f} s {result[0] / ours:5.1f}x{extra(tool)}"
    print(text, flush=True)


PACKAGES = {"dockerd": "docker.io", "podman": "podman", "skopeo": "skopeo", "docker-registry": "docker-registry", "time": "time"}


def main():
    wanted = sys.argv[1:] or ["push", "pull", "many", "again"]
    if set(wanted) - {"push", "pull", "many", "again"}:
        sys.exit(__doc__)
    install(PACKAGES)
    work = Path(tempfile.mkdtemp(prefix="dunnage-registry.", dir="/var/tmp"))
    tools = []
    try:
        chosen = os.environ.get("PEERS", "docker,podman,skopeo").split(",")
        for tool in (Dunnage, Docker, Podman, Skopeo):
            if tool is Dunnage or tool.name in chosen:
                tools.append(tool(work))
        if {"push", "pull"} & set(wanted):
            large = big(work)
        if {"many", "again"} & set(wanted):
            small = many(work)
        if "push" in wanted:
            row("push, 1 GiB layer", {tool.name: pushes(tool, work, large, "big") for tool in tools})
        for case, image in (("pull", "big"), ("many", "many")):
            if case not in wanted:
                continue
            registry, first = Registry(work), tools[0]
            first.load(large if image == "big" else small, image)
            first.tag(image, registry.name(image))
            run(*first.push(registry.name(image)), env=first.env)
            title = "pull, 1 GiB layer" if case == "pull" else "pull, 60 layers of 1 MiB"
            row(title, {tool.name: pulls(tool, registry, image) for tool in tools})
            registry.stop()
        if "again" in wanted:
            results = {tool.name: again(tool, work, small, "many") for tool in tools}
            row("push again, 60 layers", results, lambda tool: f" {results[tool][2]} requests")
        return 0
    finally:
        for tool in tools:
            tool.stop()
        clear(work)


if __name__ == "__main__":
    sys.exit(main())
