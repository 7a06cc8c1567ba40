"""The model card of an agent on the hub: what it is, what was measured, and how to use it.

Everything in it comes from the agent's files and from the JSON that ``tdm evaluate --out`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdm_agents.agent.agent_files import read_settings
from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import JsonError, check_fields, load_json
from tdm_agents.storage import CheckpointError, write_bytes, write_json
from tdm_agents.world_models.model_files import MODEL_FILE, weights_sha256

CARD_FILE = "README.md"
EVALUATION_FILE = "evaluation.json"


def read_evaluation(path: Path, sha256: str) -> dict[str, Any]:
    """The report of an evaluation of the weights that have this sha256.

    Raises:
        CheckpointError: If the file is missing or no report of an evaluation.
        ValueError: If other weights were evaluated.
    """
    try:
        report = check_fields(
            load_json(path),
            str(path),
            {
                "kind": str,
                "env_id": str,
                "seeds": list,
                "settings": dict,
                "summary": dict,
                "provenance": dict,
            },
        )
        check_fields(
            report["summary"],
            f"{path}, summary",
            dict.fromkeys(("mean", "iqm", "iqm_low", "iqm_high"), float),
        )
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; `tdm evaluate --out` writes one") from error
    except JsonError as error:
        raise CheckpointError(f"{error}; expected what `tdm evaluate --out` writes") from error
    evaluated = report["provenance"].get("weights_sha256")
    if evaluated != sha256:
        raise WrongValueError(
            f"{path} is the evaluation of the weights {str(evaluated)[:12]}, and these are {sha256[:12]}; "
            "evaluate the agent that is uploaded"
        )
    return report


def write_card(folder: Path, repository: str, evaluation: Path | None) -> None:
    """Write the card, and a copy of the evaluation, beside an agent's files.

    Raises:
        CheckpointError: If the evaluation is missing or no report.
        ValueError: If other weights were evaluated.
    """
    report = None
    if evaluation is not None:
        report = read_evaluation(evaluation, weights_sha256(folder))
        write_json(folder / EVALUATION_FILE, report)
    write_bytes(folder / CARD_FILE, model_card(folder, repository, report).encode())


def model_card(folder: Path, repository: str, evaluation: Mapping[str, Any] | None) -> str:
    """The card of the agent in a folder, as Markdown.

    Args:
        folder: The agent's files.
        repository: ``"owner/name"``.
        evaluation: What :func:`read_evaluation` returned; without it the card says that nothing was measured.
    """
    settings = read_settings(folder)
    kind = str(load_json(folder / MODEL_FILE)["type"])
    env_id = settings.env_id or "environments of its spaces"
    parts = [
        f"---\n{_front_matter(repository, kind, settings.env_id, evaluation)}---",
        f"# {repository.partition('/')[2]}",
        f"An agent of tdm-agents for `{env_id}`: it imagines with a world model (`{kind}`) and plans with "
        f"`{settings.planner}`.",
        "```python\nfrom tdm_agents import TDMAgent\n\n"
        f'agent = TDMAgent.load("hf://{repository}", seed=0)\n```',
        "## Measured",
        "Nothing was measured." if evaluation is None else _measured(evaluation),
        "## Settings",
        "\n".join(
            [
                f"- world model: `{kind}`",
                f"- planner: `{settings.planner}`, `{json.dumps(dict(settings.planner_settings))}`",
                f"- reward that is planned for: {_code(settings.reward_function, 'what the model predicts')}",
                f"- decisions per plan: {settings.replan_every}",
            ]
        ),
        "`SHA256SUMS` has the hash of each file.",
    ]
    return "\n\n".join(parts) + "\n"


def _code(text: str | None, otherwise: str) -> str:
    return otherwise if text is None else f"`{text}`"


def _front_matter(
    repository: str, kind: str, env_id: str | None, evaluation: Mapping[str, Any] | None
) -> str:
    """Metadata as the hub reads them: YAML, of which JSON values are a part."""
    values: dict[str, Any] = {
        "library_name": "tdm-agents",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "world-model", "planning", "gymnasium", kind],
    }
    if evaluation is not None:
        mean = evaluation["summary"]["mean"]
        metric = {"type": "mean_reward", "name": "mean return", "value": round(mean, 2)}
        values["model-index"] = [
            {
                "name": repository.partition("/")[2],
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement learning"},
                        "dataset": {"type": evaluation["env_id"], "name": evaluation["env_id"]},
                        "metrics": [metric],
                    }
                ],
            }
        ]
    if env_id is not None:
        values["tags"].append(env_id.partition(" ")[0])
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


def _measured(evaluation: Mapping[str, Any]) -> str:
    found, origin = evaluation["summary"], evaluation["provenance"]
    rows = {
        "environment": f"`{evaluation['env_id']}`",
        "return, interquartile mean": (
            f"{found['iqm']:.1f} ({found['iqm_low']:.1f} to {found['iqm_high']:.1f}, "
            f"{100 * found.get('level', 0.95):.0f} % bootstrap interval)"
        ),
        "return, mean": f"{found['mean']:.1f}",
        "episodes, seeds": f"{len(evaluation['seeds'])}: {', '.join(map(str, evaluation['seeds']))}",
    }
    if isinstance(found.get("milliseconds_per_decision"), int | float):
        rows["milliseconds per decision"] = f"{found['milliseconds_per_decision']:.0f}"
    for name in ("command", "created"):
        if origin.get(name):
            rows[name] = f"`{origin[name]}`"
    versions = origin.get("versions") or {}
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    table = "\n".join(f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items())
    return f"| | |\n| --- | --- |\n{table}\n\n`{EVALUATION_FILE}` has every episode."
