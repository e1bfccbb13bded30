#!/usr/bin/env python3
"""Holds dunnage against docker (BuildKit) and buildah, in one run on one machine.

    bench/peers.py trees [CASE…]   every case of testdata/trees: same file tree and same configuration?
    bench/peers.py speed [NAME…]   medians of the same builds, as ratios

Needs root. Installs docker.io, buildah and busybox-static by apt where they are missing, and starts a docker daemon of its own
below a temporary directory, which it stops again. The binary is taken from $DUNNAGE, a bare parallel stat walk from $STAT_WALK
(`cargo build --release -p dunnage-cache --example stat_walk`). $PEERS names the peers (docker,buildah), $ROUNDS the rounds of a case.
"""
import hashlib, json, os, shutil, statistics, sys, tarfile, tempfile, time
from pathlib import Path

from common import DUNNAGE, WITHOUT_NETWORK, DockerDaemon, clear, install, run, timed

HERE = Path(__file__).resolve().parent
CASES = HERE.parent / "testdata" / "trees"
# Debian's docker and buildah know the language as of 2022.
NEWER_THAN_PEERS = {"heredocs", "link-parents-exclude"}
# Where a peer is known to differ, and why; everything else must be equal.
KNOWN = json.loads((HERE / "peers.json").read_text())


class Dunnage:
    name = "dunnage"

    def __init__(self, work):
        self.env = {**os.environ, "DUNNAGE_ROOT": str(work / "dunnage")}

    def base(self, archive):
        run(DUNNAGE, "bootstrap", "--from", "busybox", "base", env=self.env)
        run(DUNNAGE, "save", "-o", archive, "base", env=self.env)

    def command(self, context, *flags):
        return [DUNNAGE, "build", "-q", "-t", "case", *flags, str(context)]

    def save(self, archive):
        run(DUNNAGE, "save", "-o", archive, "case", env=self.env)

    def forget(self):
        run(DUNNAGE, "rmi", "-f", "case", check=False, env=self.env)
        run(DUNNAGE, "system", "prune", "--force", "--all", check=False, env=self.env)
        run(DUNNAGE, "bootstrap", "--from", "busybox", "base", check=False, env=self.env)

    def stop(self):
        pass


class Docker:
    name = "docker"

    def __init__(self, work):
        self.daemon = DockerDaemon(work / "docker", *WITHOUT_NETWORK)
        self.env = self.daemon.env

    def base(self, archive):
        run("/usr/bin/docker", "load", "-i", archive, env=self.env)

    def command(self, context, *flags):
        return ["/usr/bin/docker", "build", "-q", "--network", "host", "-t", "case", *flags, str(context)]

    def save(self, archive):
        run("/usr/bin/docker", "save", "-o", archive, "case", env=self.env)

    def forget(self):
        run("/usr/bin/docker", "rmi", "-f", "case", check=False, env=self.env)
        run("/usr/bin/docker", "builder", "prune", "-af", env=self.env)

    def stop(self):
        self.daemon.stop()


class Buildah:
    name = "buildah"

    def __init__(self, work):
        self.directory = work / "buildah"
        self.env = {**os.environ, "BUILDAH_ISOLATION": "oci"}
        self.flags = ["--root", self.directory / "root", "--runroot", self.directory / "run", "--storage-driver", "overlay"]

    def buildah(self, *words, check=True):
        return run("buildah", *self.flags, *words, check=check, env=self.env)

    def base(self, archive):
        self.buildah("pull", f"docker-archive:{archive}")
        self.buildah("tag", "base", "localhost/base:latest", check=False)

    def command(self, context, *flags):
        return ["buildah", *map(str, self.flags), "build", "-q", "--layers", "--format", "docker", "--pull-never",
                "--identity-label=false", "--runtime", shutil.which("runc"), "--network", "host", "-t", "case", *flags, str(context)]

    def save(self, archive):
        self.buildah("push", "case", f"docker-archive:{archive}:case:latest")

    def forget(self):
        self.buildah("rmi", "-f", "case", check=False)
        self.buildah("rmi", "--prune", "-f", check=False)

    def stop(self):
        pass


def tree_of(archive):
    """The merged tree of an image in a docker archive, one line a path, and its configuration."""
    entries = {}
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]
        config = json.load(outer.extractfile(manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                merge(entries, inner)
    return {path: line for path, line in sorted(entries.items())}, config


def merge(entries, layer):
    fresh = {}
    for member in layer:
        path = os.path.normpath("/" + member.name)
        directory, name = os.path.split(path)
        if name == ".wh..wh..opq":
            drop(entries, directory, children_only=True)
        elif name.startswith(".wh."):
            drop(entries, os.path.join(directory, name[4:]))
        elif path != "/":
            fresh[path] = describe(member, layer, fresh, entries)
    for path, line in fresh.items():
        if not line.startswith("directory"):
            drop(entries, path)
        entries[path] = line


def drop(entries, path, children_only=False):
    for known in [known for known in entries if known.startswith(path.rstrip("/") + "/") or (known == path and not children_only)]:
        del entries[known]


def describe(member, layer, fresh, entries):
    owner = f"{member.mode & 0o7777:04o} {member.uid}:{member.gid}"
    if member.isdir():
        return f"directory {owner}"
    if member.issym():
        return f"link {member.uid}:{member.gid} -> {member.linkname}"
    if member.islnk():
        target = os.path.normpath("/" + member.linkname)
        return fresh.get(target) or entries.get(target, "link to nothing")
    if member.isreg():
        content = hashlib.sha256(layer.extractfile(member).read()).hexdigest()[:16]
        return f"file {owner} {member.size} {content}"
    kind = "pipe" if member.isfifo() else "device"
    return f"{kind} {owner} {member.devmajor}:{member.devminor}"


CONFIG = ["Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "Shell", "Healthcheck",
          "OnBuild", "StopSignal"]


def differences(ours, theirs, known):
    (our_tree, our_config), (their_tree, their_config) = ours, theirs
    for path in sorted(our_tree.keys() | their_tree.keys()):
        if our_tree.get(path) != their_tree.get(path) and path not in known:
            yield f"{path}\n      dunnage {our_tree.get(path)}\n      peer    {their_tree.get(path)}"
    for key in CONFIG:
        mine, other = our_config.get(key) or None, their_config.get(key) or None
        if mine != other and key not in known:
            yield f"{key}\n      dunnage {json.dumps(mine)}\n      peer    {json.dumps(other)}"


def trees(builders, work, wanted):
    dunnage, peers = builders[0], builders[1:]
    failed = compared = 0
    for case in sorted(path.name for path in CASES.iterdir() if not wanted or path.name in wanted):
        built = run(*dunnage.command(CASES / case), env=dunnage.env, check=False)
        if built.returncode:
            print(f"  FAILED  {case:<24} dunnage\n{built.stderr}")
            failed += 1
            continue
        dunnage.save(work / "dunnage.tar")
        ours = tree_of(work / "dunnage.tar")
        (work / "dunnage.tar").unlink()
        for peer in peers:
            if case in NEWER_THAN_PEERS:
                print(f"  skipped {case:<24} {peer.name}: newer than Debian's {peer.name}")
                continue
            built = run(*peer.command(CASES / case), env=peer.env, check=False)
            if built.returncode:
                print(f"  skipped {case:<24} {peer.name} cannot build it: {built.stderr.strip().splitlines()[-1]}")
                continue
            archive = work / f"{peer.name}.tar"
            peer.save(archive)
            of_peer = KNOWN.get(peer.name, {})
            known = of_peer.get(case, {})
            found = list(differences(ours, tree_of(archive), {**of_peer.get("*", {}), **known}))
            archive.unlink()
            compared += 1
            failed += bool(found)
            print(f"  {'DIFFERS' if found else 'equal  '} {case:<24} {peer.name}" + "".join(f"\n    {line}" for line in found))
            for key, why in known.items():
                print(f"    known: {key}: {why}")
    print(f"{compared} comparisons, {failed} differ")
    return failed


def many_files(work):
    directory = work / "many"
    if not directory.exists():
        for folder in range(250):
            (directory / f"d{folder}").mkdir(parents=True)
            for number in range(200):
                (directory / f"d{folder}" / f"f{number}").write_text(f"content of {folder}/{number}\n" * 20)
        (directory / "Dockerfile").write_text("FROM base\nCOPY . /all\n")
    return directory


def large_file(work):
    directory = work / "large"
    if not directory.exists():
        directory.mkdir()
        with open(directory / "large", "wb") as file:
            for _ in range(1024):
                file.write(os.urandom(1 << 20))
        (directory / "Dockerfile").write_text("FROM base\nCOPY large /large\n")
    return directory


def text_case(work, name, dockerfile):
    directory = work / name
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


def runs(count):
    return "FROM base\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(count))


def sleeps(count):
    stages = "".join(f"FROM base AS s{n}\nRUN sleep 1; echo {n} > /f{n}\n" for n in range(count))
    return stages + "FROM base\n" + "".join(f"COPY --from=s{n} /f{n} /f{n}\n" for n in range(count))


def speed_cases(work):
    """Name, context, rounds, and what is done before each round: cold, nothing, or a file changed."""
    return [
        ("30 RUN steps, cold", lambda: text_case(work, "runs", runs(30)), 3, "cold"),
        ("8 stages that sleep 1 s, cold", lambda: text_case(work, "sleeps", sleeps(8)), 3, "cold"),
        ("50,000 files, cold", lambda: many_files(work), 3, "cold"),
        ("50,000 files, nothing changed", lambda: many_files(work), 5, "warm"),
        ("50,000 files, one changed", lambda: many_files(work), 3, "change"),
        ("1 GiB COPY, cold", lambda: large_file(work), 3, "cold"),
    ]


def measure(builder, context, rounds, before):
    times, peak = [], 0.0
    if before != "cold":
        timed(builder.command(context), builder.env)
    for number in range(rounds):
        if before == "cold":
            builder.forget()
        if before == "change":
            (context / "d7" / "f7").write_text(f"{builder.name} {number} {time.time_ns()}\n")
        seconds, memory = timed(builder.command(context), builder.env)
        times.append(seconds)
        peak = max(peak, memory)
    return statistics.median(times), peak


def speed(builders, work, wanted):
    print(f"{'':<32} {'dunnage':>16} " + " ".join(f"{builder.name:>20}" for builder in builders[1:]))
    for name, make, rounds, before in speed_cases(work):
        if wanted and not any(word in name for word in wanted):
            continue
        context = make()
        rounds = int(os.environ.get("ROUNDS", rounds))
        ours, peak = measure(builders[0], context, rounds, before)
        row = f"{name:<32} {ours:7.3f} s {peak:4.0f} MB"
        for peer in builders[1:]:
            theirs, _ = measure(peer, context, rounds, before)
            row += f"  {theirs:8.3f} s {theirs / ours:6.1f}x"
        print(row, flush=True)
        if before == "cold" and "1 GiB" in name:
            floor(context, work, ours)
        if before == "cold" and "files" in name:
            copied(context, work, ours)
        if "nothing changed" in name:
            stat_walk(context, ours)
    return 0


def floor(context, work, ours):
    """What the machine itself needs: a copy and a hash."""
    times = []
    for _ in range(3):
        os.sync()
        started = time.monotonic()
        run("cp", context / "large", work / "copy")
        run("openssl", "dgst", "-sha256", work / "copy")
        times.append(time.monotonic() - started)
        (work / "copy").unlink()
    print(f"{'  cp + openssl sha256':<32} {statistics.median(times):7.3f} s, dunnage {ours / statistics.median(times):.2f}x")


def stat_walk(context, ours):
    walks = {"find, one thread": ["find", context, "-newermt", "2100-01-01"]}
    if "STAT_WALK" in os.environ:
        walks["a bare parallel stat walk"] = [os.environ["STAT_WALK"], context]
    for name, command in walks.items():
        times = []
        for _ in range(5):
            started = time.monotonic()
            run(*command)
            times.append(time.monotonic() - started)
        print(f"  {name:<30} {statistics.median(times):7.3f} s, dunnage {ours / statistics.median(times):.2f}x")


def copied(context, work, ours):
    """What a copy of the files takes."""
    times = []
    for number in range(3):
        os.sync()
        started = time.monotonic()
        run("cp", "-a", context, work / f"copy{number}")
        times.append(time.monotonic() - started)
    print(f"  {'cp -a':<30} {statistics.median(times):7.3f} s, dunnage {ours / statistics.median(times):.2f}x")


PACKAGES = {"dockerd": "docker.io", "buildah": "buildah", "busybox": "busybox-static", "openssl": "openssl",
            "runc": "runc", "time": "time"}


def main():
    mode, wanted = (sys.argv[1:2] or ["trees"])[0], sys.argv[2:]
    if mode not in ("trees", "speed"):
        sys.exit(__doc__)
    install(PACKAGES)
    work = Path(tempfile.mkdtemp(prefix="dunnage-peers.", dir="/var/tmp"))
    builders = []
    try:
        peers = os.environ.get("PEERS", "docker,buildah").split(",")
        for builder in (Dunnage, Docker, Buildah):
            if builder is Dunnage or builder.name in peers:
                builders.append(builder(work))
        archive = work / "base.tar"
        for builder in builders:
            builder.base(archive)
        print(run("/usr/bin/docker", "--version").stdout.strip(), "·", run("buildah", "--version").stdout.strip())
        return (trees if mode == "trees" else speed)(builders, work, wanted)
    finally:
        for builder in builders:
            builder.stop()
        clear(work)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
