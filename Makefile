# `make demo` and `make test` are all that a reader needs. Everything creates .venv and installs into it first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# two processes, each of one thread; the tests of a file stay together and share what they made
PYTEST := MUJOCO_GL=$${MUJOCO_GL:-disable} $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-slow test-floors quick install site release-check clean
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,mazes]"
	touch $@

demo: install
	$(BIN)/tdm demo

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

# what `make test` leaves out because it takes minutes
test-slow: install
	$(PYTEST) -m slow

# An answer in a minute on two quiet cores: ruff, and the tests but for files that start processes, compile,
# train, render, run pages, or take long for another reason. Leaves mypy out too.
LONG := test_capture test_cli_envs test_collect* test_compare test_contracts_envs test_data_info \
	test_decision_memory test_demo test_docs test_doctor test_ended_rows test_ends test_equal_actions test_examples \
	test_experts test_fused_attention test_generalist test_interrupts test_lines_to_read test_minari_data \
	test_mixture test_mlp test_online_* test_parallel_decoding test_planning_speed test_play test_plots \
	test_plugins_installed test_pool test_ray_pool test_readme test_roofline test_sb3_* test_site test_speaking \
	test_studies test_reinforced_studies test_suite_env test_suite_variants test_torchrun test_training test_distillation \
	test_policy_server test_serve_command test_shared_decisions \
	test_beam_search_speed test_iql test_waypoints \
	test_live_* test_planning_process test_episode_film test_view_command \
	test_transformer_draft test_walkers_bodies test_walkers_rendering test_walkers_universe

quick: install
	$(BIN)/ruff check .
	$(PYTEST) $(LONG:%=--ignore-glob='*/%.py')

# the tests of `make quick` with the oldest versions that pyproject.toml allows; a few minutes
OLDEST := .venv-oldest
test-floors: $(OLDEST)/.installed
	MUJOCO_GL=$${MUJOCO_GL:-disable} $(OLDEST)/bin/python -m pytest -n 2 --dist loadfile $(LONG:%=--ignore-glob='*/%.py')

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[dev]"
	touch $@

# the pages of docs/ and an API reference, as a site in build/site; a warning is an error
site: install
	cd website && NO_MKDOCS_2_WARNING=1 ../$(BIN)/python -m mkdocs build --strict

# What has to hold before a release: sdist and wheel are built, their metadata are right, and the wheel passes the
# quick tests in an environment of its own, outside of this folder. CONTRIBUTING.md has the rest of the checklist.
RELEASE := .venv-release
OUTSIDE := build/outside
release-check: install
	rm -rf dist $(RELEASE) $(OUTSIDE)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[release]"
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[dev]"
	mkdir -p $(OUTSIDE)
	cp -r tests benchmarks docs pyproject.toml $(OUTSIDE)
	cd $(OUTSIDE) && MUJOCO_GL=$${MUJOCO_GL:-disable} ../../$(RELEASE)/bin/python -P -m pytest -n 2 --dist loadfile \
		tests/tdm_agents tests/tdm_envs tests/tdm_planners $(LONG:%=--ignore-glob='*/%.py')

clean:
	rm -rf $(VENV) $(OLDEST) $(RELEASE) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
