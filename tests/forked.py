"""The command line in forks of one process that has imported everything, so that a kill costs no import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Answers each line on its standard input with one: forks a run, or tells how a fork ended.
SERVER = """
import json, os, sys
from pathlib import Path

import torch
torch.set_num_threads(1)
import diffusers, transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline
from oubliette import cli
from oubliette.commands import app
from oubliette.erase import run
from oubliette.train import loop
from oubliette.workflows import audit, check, erase, evaluate
from oubliette.world import embedded

for line in sys.stdin:
    asked = json.loads(line)
    if "poll" in asked:
        pid, status = os.waitpid(asked["poll"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(json.dumps(pid), flush=True)
        continue
    code = 70
    try:
        os.chdir(asked["cwd"])
        os.environ.update(asked["env"])
        for number, place in enumerate((os.devnull, os.devnull, asked["stderr"])):
            os.dup2(os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        if asked["weights"]:
            embedded.WEIGHTS = Path(asked["weights"])
        code = cli.main(asked["arguments"])
    finally:
        sys.stderr.flush()
        os._exit(code)
"""


class Forks:
    """A process to fork from; `start` gives what can be waited for and killed, as `subprocess.Popen`."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, asked: dict[str, Any]) -> Any:
        """One line there, one back."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self,
        arguments: list[str],
        where: Path,
        *,
        weights: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> Fork:
        """`oubliette ARGUMENTS` in the folder `where`, with these embedded weights and this environment."""
        asked = {
            "arguments": arguments,
            "cwd": str(where),
            "env": env or {},
            "stderr": str(where / "stderr.txt"),
            "weights": None if weights is None else str(weights),
        }
        return Fork(self, self.ask(asked), where / "stderr.txt")

    def close(self) -> None:
        """End the process; no more forks."""
        self._server.kill()
        self._server.communicate()


class Fork:
    """One run."""

    def __init__(self, forks: Forks, pid: int, stderr: Path) -> None:
        self._forks, self.pid, self._stderr = forks, pid, stderr
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code when it has ended; `subprocess.TimeoutExpired` where it has not after `timeout` s."""
        begun = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - begun > timeout:
                raise subprocess.TimeoutExpired("oubliette", timeout)
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """Kill it for good."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._stderr.read_text(encoding="utf-8")
