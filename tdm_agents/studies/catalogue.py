"""All studies by name."""

from __future__ import annotations

from tdm_agents.studies import ablations, few_shot, locomotion, offline, proposal, specialist, zero_shot
from tdm_agents.studies.stages import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        zero_shot.STUDY,
        zero_shot.ALL_FAMILIES,
        specialist.STUDY,
        proposal.STUDY,
        few_shot.STUDY,
        ablations.STUDY,
        offline.STUDY,
        locomotion.STUDY,
    )
}
"""By name."""
