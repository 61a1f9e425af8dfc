"""Hypothesis: no deadline for one example, for a busy machine is no defect."""

from hypothesis import settings

settings.register_profile("protocol", deadline=None)
settings.load_profile("protocol")
