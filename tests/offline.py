"""A run of everything in a process that may not open a connection: `python -m tests.offline`.

The interpreter itself tells of every connection and every look-up of a name, in libraries, too.
"""

import contextlib
import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOK_UPS = tuple(
    f"socket.{name}" for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")
)


def forbid_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise where a connection begins, but for sockets that are files of this machine."""
    is_file = event in CONNECTIONS and isinstance(arguments[1], str | bytes)
    if event in (*CONNECTIONS, *LOOK_UPS) and not is_file:
        os.write(2, f"NETWORK {event} {arguments}\n".encode())
        raise PermissionError(f"no network: {event} {arguments}")


def import_everything() -> int:
    """Import every module of the package and return their number."""
    import neurosam3d

    found = pkgutil.walk_packages(neurosam3d.__path__, "neurosam3d.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    for name in names:
        import_module(name)
    return len(names)


def work(recipe: Path, tree: Path, raw: Path) -> None:
    """Prepare a raw folder, train, test, segment a scan and judge the network."""
    from neurosam3d.__main__ import main
    from neurosam3d.data.prepare.command import data_command

    folder = recipe.parent
    prepare = ["-dt", "Tr", "--raw", raw, "--name", "Raw", "--out", folder / "raw_out"]
    data_command([], [*map(str, prepare), "--workers", "2"])
    checkpoint = folder / "runs/toy/checkpoints/last.ckpt"
    image = sorted((tree / "Toy" / "imagesVal").iterdir())[0]
    mask, results = ["-o", folder / "a.nii.gz"], ["--save_name", folder / "results/toy"]
    for words in (
        ["fit", f"--config={recipe}"],
        ["test", f"--config={recipe}", "--ckpt_path=last"],
        ["segment", image, "--point=10,11,11", "--checkpoint", checkpoint, *mask],
        ["evaluate", "-cp", checkpoint, "-tdp", tree, "-dt=Val", "--num_clicks=1", *results],
    ):
        with contextlib.suppress(SystemExit):  # what each leaves behind is looked at
            main(list(map(str, words)))


if __name__ == "__main__":
    sys.addaudithook(forbid_network)
    sys.stdout.write(f"{import_everything()} modules\n")
    work(*map(Path, sys.argv[1:]))
