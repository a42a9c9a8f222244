# Two commands on a fresh machine: `make demo`, then `make test`. Both do all the set-up.

VENV := .venv
RUN := $(VENV)/bin/python
BENCHMARKS := pictures pipeline forwarder sink sinks detector_comparison detector arm64_instructions outbox backlog latency thin_link broker_durability still_scene quality startup gallery fleet false_faces

.PHONY: help demo test test-slow test-all lint audit bench bench-detector bench-all bench-quick chaos mutants compose-test iot-core-test broker-test aws-test metadata-test lock upgrade clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

$(VENV)/.ready: requirements/dev.txt demo/setup.sh
	@PYTHON="$(PYTHON)" sh demo/setup.sh $(VENV)
	@touch $@

demo: $(VENV)/.ready ## the whole pipeline on this machine; CAMERA=/dev/video0, an rtsp:// address or a file; STAY=1 keeps the gallery
	@$(RUN) -m demo $(if $(CAMERA),--camera "$(CAMERA)") $(if $(STAY),--stay)

test: $(VENV)/.ready ## what a change usually breaks, against a real Mosquitto and a real S3 server; a few minutes
	@$(RUN) -m pytest -m "not slow" --numprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST)

test-slow: $(VENV)/.ready ## chaos, the demo, the gallery in a browser, an hour of camera faults, fuzzing
	@$(RUN) -m pytest -m slow --numprocesses 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

test-all: test test-slow ## every test

lint: $(VENV)/.ready ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

audit: $(VENV)/.ready ## dangerous code, and packages with known vulnerabilities
	@$(RUN) -m bandit --quiet --configfile pyproject.toml --recursive wire edge cloud demo benchmarks scripts
	@$(RUN) -m tests.audit

bench: $(VENV)/.ready ## throughput and memory of the whole chain
	@$(RUN) -m benchmarks.pipeline

bench-detector: $(VENV)/.ready ## the detector beside its peers; LABELS=set.json for accuracy
	@$(RUN) -m benchmarks.detector_comparison $(foreach set,$(LABELS),--labels $(set))

bench-all: $(VENV)/.ready ## every benchmark
	@for name in $(BENCHMARKS); do $(RUN) -m benchmarks.$$name || exit 1; done

bench-quick: $(VENV)/.ready ## every benchmark for a few seconds, two at a time: shows that each one runs
	@mkdir -p build
	@printf '%s\n' $(BENCHMARKS) | xargs -P 2 -I NAME sh -c '$(RUN) -m benchmarks.NAME --quick >build/NAME.log 2>&1; \
		status=$$?; echo "benchmarks.NAME: exit $$status"; cat build/NAME.log; exit $$status'

chaos: $(VENV)/.ready ## break everything at random and count the faces; FAULTS=100 FACES=3000 SEED=... SINKS=2 ONLY=wan-cut,s3-403
	@$(RUN) -m tests.chaos $(if $(FAULTS),--faults $(FAULTS)) $(if $(FACES),--faces $(FACES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(SINKS),--sinks $(SINKS)) $(if $(ONLY),--only $(ONLY))

mutants: $(VENV)/.ready ## show that each deliberate defect is caught by a test; QUICK=yes for a few, ONLY=text for some
	@$(RUN) -m tests.mutants $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

compose-test: $(VENV)/.ready ## build the images, bring up both compose files, break them, and count the faces; COMPOSE=2.30.3 GSTREAMER=yes; ARCH=arm64
	@$(RUN) -m tests.compose $(if $(COMPOSE),--compose $(COMPOSE)) $(if $(GSTREAMER),--gstreamer) \
		$(if $(ARCH),--arch $(ARCH)) $(if $(IMAGES),--images)

AWS_TOOLS := build/aws-tools
$(AWS_TOOLS)/.ready: requirements/aws.txt $(VENV)/.ready
	@$(RUN) -m uv venv --quiet --clear --python $(RUN) $(AWS_TOOLS)
	@$(RUN) -m uv pip install --quiet --python $(AWS_TOOLS)/bin/python --no-deps --require-hashes -r requirements/aws.txt
	@touch $@

aws-test: $(AWS_TOOLS)/.ready ## lint the template for AWS, deploy it on a stand-in for AWS, and remove it; QUICK=yes
	@$(RUN) -m tests.aws $(if $(QUICK),--quick)

metadata-test: $(VENV)/.ready ## show in Docker that on EC2 only the sink reaches the metadata service
	@$(RUN) -m tests.aws.metadata

iot-core-test: $(VENV)/.ready ## an hour of faces through a stand-in for AWS IoT Core that enforces its limits
	@$(RUN) -m tests.iot_core $(if $(FULL),--full)

broker-test: $(VENV)/.ready ## the whole chain against Artemis, HiveMQ and Mosquitto, whose nodes are killed; QUICK=yes, ONLY=artemis,hivemq
	@$(RUN) -m tests.brokers $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

lock: $(VENV)/.ready ## pin what the requirements name, with hashes; versions that are pinned already stay
	@sh requirements/lock.sh $(RUN)

upgrade: $(VENV)/.ready ## pin the newest versions of everything but paho-mqtt
	@sh requirements/lock.sh $(RUN) --upgrade

clean: ## forget what was installed and made
	rm -rf $(VENV) build .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
