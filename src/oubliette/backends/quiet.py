"""Loading without the libraries' own bars and tables, which would drown the one line a user should read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Switch off the progress bars of diffusers and transformers inside the block, and put them back.

    So too their tables and lines of what they found in a file: what is missing there is an error of ours.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    switched: list = []
    verbosity = {each: each.get_verbosity() for each in (diffusers_logging, transformers_logging)}
    for library in verbosity:
        library.set_verbosity_error()
    for library in (diffusers_logging, transformers_logging):
        if library.is_progress_bar_enabled():
            library.disable_progress_bar()
            switched.append(library)
    try:
        yield
    finally:
        for library, level in verbosity.items():
            library.set_verbosity(level)
        for library in switched:
            library.enable_progress_bar()
