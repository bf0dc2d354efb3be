"""The relearning attack: fine-tuning on a little of what a model forgot, and looking on the way.

It is anyone's fine-tuning, on the shared loop; what makes it an attack is its data. Nothing in it knows what
kind of model it attacks.
"""

from __future__ import annotations

from oubliette.train.tuning.tune import Look, Rewordable, Tuned, loop_seed
from oubliette.train.tuning.tune import tune as relearn

__all__ = ["Look", "Rewordable", "Tuned", "loop_seed", "relearn"]
