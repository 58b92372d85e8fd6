# Two commands: `make demo`, then `make test`. Each sets itself up first. What people do with the services, models and data is
# `.venv/bin/airloop`.

PYTHON ?= python3
# compose plays on, starts and ends docker-compose.yaml; WITHOUT=grafana leaves services of it out.
PLACE ?= embedded
# Test files side by side, more than cores since stacks wait a lot; each of them may hold a Spark or an Airflow (2 GB).
JOBS ?= 3
# Files and programs' words are UTF-8 in every locale.
export PYTHONUTF8 := 1
# What a shell says to every Python is for other work.
unexport PYTHONHOME PYTHONPATH PYTHONUSERBASE PYTHONSTARTUP PYTHONINSPECT PYTHONOPTIMIZE PYTHONWARNINGS PYTHONSAFEPATH PYTHONIOENCODING
RUN := .venv/bin/python
READY := .venv/.airloop.json
TORCH_READY := .venv/.torch.json
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help setup setup-torch demo test test-cluster soak bench bench-gpu lint format docs lock images clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from the locks, and find or fetch a Java
	@$(PYTHON) -m local.bootstrap

$(READY): requirements/boot.txt requirements/main.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -m local.bootstrap

# TORCH=cu128 (or another of uv's --torch-backend, or `index`: what the package index has) for another build than that without CUDA.
setup-torch: ## install PyTorch too, for `train.family: mlp` (TORCH=auto for a GPU's build)
	@$(PYTHON) -m local.bootstrap --torch

$(TORCH_READY): $(READY) requirements/torch.txt requirements/torch.version
	@$(PYTHON) -m local.bootstrap --torch

demo: $(READY) ## watch half a year of data go round the loop, in a home of its own that starts empty (THROUGH=2013-12, PLACE=compose)
	@.venv/bin/airloop demo --place $(PLACE) $(if $(THROUGH),--through $(THROUGH)) $(addprefix --without ,$(WITHOUT))

test: $(TORCH_READY) ## prove it: unit, property, contract and end-to-end tests (ARGS="-k name" for some)
	@$(RUN) -m pytest $(or $(ARGS),-n $(JOBS) --max-worker-restart 0)

soak: $(TORCH_READY) ## kill trainings KILLS times (200), try FAULTS faults (2000) on the run protocol, and compare what they end with
	@KILLS=$(or $(KILLS),200) FAULTS=$(or $(FAULTS),2000) $(RUN) -m pytest tests/training/test_killed.py tests/faults -s $(ARGS)

# KUBECONFIG=<file> IMAGE_PREFIX=<registry/path/>; IMAGE_TAG (local); S3_ENDPOINT=<url> with AWS_* keys in the environment, or a
# store on this machine for a single node (HOST_ADDRESS where it cannot be found); KEEP=1 leaves the namespace.
test-cluster: $(READY) ## the loop and its faults on a real cluster: KUBECONFIG=<file> IMAGE_PREFIX=<registry/path/>
	@$(foreach name,KUBECONFIG IMAGE_PREFIX IMAGE_TAG S3_ENDPOINT HOST_ADDRESS KEEP TORCH,AIRLOOP_TEST_$(name)="$($(name))") \
		$(RUN) -m pytest tests/cluster $(ARGS)

bench: $(TORCH_READY) ## measure seconds, memory and rates, and store them as JSON
	@$(RUN) -m bench $(ARGS)

bench-gpu: $(TORCH_READY) ## the same of training on a GPU; skipped with a reason where there is none
	@$(RUN) -m bench.gpu $(ARGS)

lint: $(READY) ## ruff, mypy and the import contracts
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy && PYTHONPATH=plugins .venv/bin/lint-imports

format: $(READY) ## let ruff mend what it can
	@$(RUN) -m ruff check --fix --quiet . ; $(RUN) -m ruff format .

docs: $(READY) ## build the documentation as a site into build/site; fails on a link that leads nowhere
	@$(RUN) -m zensical build --strict && echo "build/site/index.html"

lock: $(READY) ## resolve requirements/*.in anew, keeping what still fits (ARGS=--upgrade for the newest)
	@cd requirements && for name in boot main dev gpu torch airflow train spark serve mlflow seaweedfs; do \
		without=; if [ -e $$name.without ]; then without="--excludes $$name.without"; fi; \
		echo "$$name.txt"; ../.venv/bin/$(LOCK) $(ARGS) $$without $$name.in -o $$name.txt || exit 1; done

images: ## build the images of docker/ (ARGS=train for one)
	@$(PYTHON) docker/build.py $(ARGS)

clean: ## stop everything and delete .venv, downloads, caches and the demo; data stay (`airloop delete` before deletes those)
	@if [ -e $(READY) ]; then .venv/bin/airloop down && .venv/bin/airloop delete --demo --yes; fi
	@rm -rf .venv .airloop/jdk .airloop/package-cache .airloop/source .airloop/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .cache build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
