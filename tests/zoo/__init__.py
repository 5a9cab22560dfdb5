"""Tiny random pipelines of the classes of diffusers, and what is true of each."""

import diffusers

from zoo.case import VARIATIONS, Case
from zoo.flows import FLOWS
from zoo.more import MORE
from zoo.odd import ODD
from zoo.refused import REFUSED
from zoo.stable import LARGE, STABLE
from zoo.videos import VIDEOS

diffusers.utils.logging.set_verbosity_error()

CASES: dict[str, Case] = {**STABLE, **LARGE, **FLOWS, **ODD, **VIDEOS, **MORE, **REFUSED}

__all__ = ["CASES", "VARIATIONS", "Case"]
