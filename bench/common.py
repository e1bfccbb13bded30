"""What the benches that need peers share: the binary, commands, packages, a docker daemon of their own, times."""
import atexit, os, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

def installed(binary):
    """A copy, as users have it: a file that a linker wrote piece by piece lies in the page cache in small pieces, each of which
    costs a fault."""
    directory = tempfile.mkdtemp(prefix="dunnage-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return shutil.copy2(binary, directory)


DUNNAGE = installed(os.environ.get("DUNNAGE", str(Path(__file__).resolve().parent.parent / "target" / "dunnage")))


def run(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if check and done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def install(packages):
    """Installs by apt what is missing of these programs, each with its package."""
    missing = [package for program, package in packages.items()
               if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=environment)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=environment)


class DockerDaemon:
    """A docker daemon below a directory; `env` is for its clients. `before` are the words before its own."""

    def __init__(self, directory, *flags, before=()):
        directory.mkdir()
        socket = f"unix://{directory}/sock"
        self.env = {**os.environ, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(directory)}
        log = open(directory / "log", "w")
        self.process = subprocess.Popen(
            [*before, "dockerd", "-H", socket, "--data-root", directory / "data", "--exec-root", directory / "exec",
             "--pidfile", directory / "pid", *flags], stdout=log, stderr=log)
        for _ in range(300):
            if run("/usr/bin/docker", "version", check=False, env=self.env).returncode == 0:
                return
            time.sleep(0.1)
        self.stop()
        sys.exit(f"the docker daemon did not start:\n{(directory / 'log').read_text()[-2000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


# Of a daemon that builds and moves images: nothing of it touches the machine's network.
WITHOUT_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false")


def timed(command, env):
    """Seconds and MB at the peak of a command that must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(["/usr/bin/time", "-f", "%M", *map(str, command)], env=env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate()
    seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{errors}")
    return seconds, int(errors.strip().splitlines()[-1]) / 1024


def clear(work):
    """Removes a directory. Daemons leave mounts below their data."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(str(work)):
            run("umount", "-l", line.split()[1], check=False)
    shutil.rmtree(work, ignore_errors=True)
