# Two commands on a fresh machine: `make demo`, then `make test`. Both do all the set-up.

VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help demo test lint audit bench bench-detector chaos compose-test lock clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

$(VENV)/.ready: requirements/dev.txt demo/setup.sh
	@PYTHON="$(PYTHON)" sh demo/setup.sh $(VENV)
	@touch $@

demo: $(VENV)/.ready ## the whole pipeline on this machine; CAMERA=/dev/video0, an rtsp:// address or a file
	@$(RUN) -m demo $(if $(CAMERA),--camera "$(CAMERA)")

test: $(VENV)/.ready ## every test, against a real Mosquitto and a real S3 server
	@$(RUN) -m pytest $(PYTEST)

lint: $(VENV)/.ready ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

audit: $(VENV)/.ready ## dangerous code, and packages with known vulnerabilities
	@$(RUN) -m bandit --quiet --configfile pyproject.toml --recursive wire edge cloud demo benchmarks
	@$(RUN) -m tests.audit

bench: $(VENV)/.ready ## throughput, latency and memory of the whole chain
	@$(RUN) -m benchmarks.pipeline

bench-detector: $(VENV)/.ready ## the detector beside its peers; LABELS=set.json for accuracy
	@$(RUN) -m benchmarks.detector $(foreach set,$(LABELS),--labels $(set))

chaos: $(VENV)/.ready ## kill everything at random and count the faces; FAULTS=100 FACES=3000 SEED=...
	@$(RUN) -m tests.chaos $(if $(FAULTS),--faults $(FAULTS)) $(if $(FACES),--faces $(FACES)) $(if $(SEED),--seed $(SEED))

compose-test: $(VENV)/.ready ## build the images, bring up both compose files, break them, and count the faces
	@$(RUN) -m tests.compose

lock: $(VENV)/.ready ## pin the requirements anew, with hashes
	@sh requirements/lock.sh $(RUN)

clean: ## forget what was installed and made
	rm -rf $(VENV) build .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
