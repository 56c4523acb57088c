"""A SLURM cluster of one node, this machine, with its own daemons in a folder of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
# No systemd, no cgroups, no database: what any container has is enough.
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
JobRequeue=1
ReturnToService=2
KillWait=5
OverTimeLimit=0
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Return which programs of SLURM are not installed."""
    return [name for name in PROGRAMS if _find(name) is None]


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Args:
        folder: Where all its files are.
        environment: Variables with which SLURM's programs find it.
    """

    folder: Path
    environment: Mapping[str, str]

    def submit(self, *words: str, cwd: Path, environment: Mapping[str, str]) -> int:
        """Submit a job by `sbatch` and return its number."""
        answer = self.call("sbatch", "--parsable", *words, cwd=cwd, environment=environment)
        return int(answer.strip().split(";")[0])

    def state(self, job: int) -> str:
        """Return a job's state, such as PENDING, RUNNING or COMPLETED."""
        return self._facts(job)["JobState"]

    def restarts(self, job: int) -> int:
        """Return how often a job was requeued."""
        return int(self._facts(job)["Restarts"])

    def hurry(self, job: int) -> None:
        """Let a requeued job start now; SLURM would let two minutes pass."""
        wait_for(lambda: self.state(job) == "PENDING", f"job {job}")
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def wait(self, job: int, *, seconds: float) -> str:
        """Wait until a job has ended and return its state."""
        wait_for(lambda: self.state(job) not in UNFINISHED, f"job {job}", seconds=seconds)
        return self.state(job)

    def call(
        self, *words: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run one of SLURM's programs and return what it says."""
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(environment or {}), **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def _facts(self, job: int) -> dict[str, str]:
        text = self.call("scontrol", "--oneliner", "show", "job", str(job)).splitlines()[0]
        return dict(word.split("=", 1) for word in text.split() if "=" in word)


@contextmanager
def running_cluster(folder: Path, *, cpus: int) -> Iterator[Cluster]:
    """Start the daemons and stop them afterwards.

    Args:
        folder: An empty folder, of root alone.
        cpus: How many processors the node claims to have; there may be fewer.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(
            host=socket.gethostname().split(".")[0],
            folder=folder,
            cpus=cpus,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
    )
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    cluster = Cluster(folder, {"SLURM_CONF": str(config)})
    places = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", *places]
    with ExitStack() as stack:
        stack.enter_context(_daemon([*munged, f"--socket={folder}/munge.socket"], cluster))
        wait_for((folder / "munge.socket").exists, "munged")
        stack.enter_context(_daemon(["slurmctld", "-D"], cluster))
        stack.enter_context(_daemon(["slurmd", "-D"], cluster))
        wait_for(lambda: _is_idle(cluster), f"the node, see the logs in {folder},")
        yield cluster


def _is_idle(cluster: Cluster) -> bool:
    try:
        return "idle" in cluster.call("sinfo", "--noheader", "--format=%T")
    except RuntimeError:  # the controller does not answer yet
        return False


@contextmanager
def _daemon(words: Sequence[str], cluster: Cluster) -> Iterator[None]:
    program = _find(words[0])
    assert program is not None
    with (cluster.folder / f"{words[0]}.out").open("wb") as out:
        process = subprocess.Popen(
            [program, *words[1:]],
            env={**os.environ, **cluster.environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(is_so: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: If it is not after some seconds.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready after {seconds:g} s")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
