"""The registries list methods without loading what they run on."""

from __future__ import annotations

import subprocess
import sys


def test_naming_the_methods_loads_no_torch() -> None:
    code = (
        "import sys; from oubliette.erase import METHODS, PREPARERS; METHODS.names(); METHODS.check('doco');"
        "PREPARERS.names(); print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
