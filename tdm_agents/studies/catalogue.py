"""All studies by name."""

from __future__ import annotations

from tdm_agents.studies import zero_shot
from tdm_agents.studies.stages import Study

STUDIES: dict[str, Study] = {study.name: study for study in (zero_shot.STUDY,)}
"""By name."""
