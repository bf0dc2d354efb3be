"""Two processes draw each picture once and end in the bits of one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from erase import launched_erasure


@pytest.mark.slow
def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    alone = launched_erasure.main(str(tmp_path / "one"), str(tmp_path / "alone"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = str(Path(launched_erasure.__file__))
    done = subprocess.run(
        [*command, script, str(tmp_path / "two"), str(tmp_path / "both")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.findall(r"[0-9a-f]{64}", done.stdout) == [alone, alone]
    names = [
        sorted(path.name for path in (tmp_path / where).rglob("*.safetensors")) for where in ("one", "two")
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 40
    assert (tmp_path / "both" / "model_index.json").is_file()
