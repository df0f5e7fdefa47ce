# Everything happens in one virtual environment, .venv, made on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 7860

.PHONY: demo test check format bench train screenshots browser soak ray lmms clean

demo: $(VENV)/.demo   ## install and serve the page at http://127.0.0.1:7860
	$(BIN)/python app.py --port $(PORT)

test: check browser   ## install, lint, type-check, run every test
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev   ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy script_core
	$(BIN)/python -m script_core.spacefile check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.demo  ## measure selection, prefill and decode on this machine
	$(BIN)/python -m script_core.bench

train: $(VENV)/.demo  ## train the embedded model again (hours on a CPU)
	$(BIN)/python -m script_core.stickers.train --preset cpu

soak: $(VENV)/.dev    ## thousands of broken files and calls, then a crowd of visitors (minutes)
	SOAK_ROUNDS=2500 $(BIN)/python -m pytest -q tests/test_nonsense.py
	$(BIN)/python -m tests.soak

ray: $(VENV)-ray/.ray ## workers in a local Ray cluster: answers, streams, deaths (minutes; installs Ray beside .venv)
	$(VENV)-ray/bin/python -m tests.cluster

lmms: $(VENV)-lmms/.lmms ## the real lmms-eval against the own runner, question by question (minutes; installs gigabytes)
	$(VENV)-lmms/bin/python -m script_lmms.check

screenshots: $(VENV)/.dev browser
	$(BIN)/python -m ui.screenshots --out screenshots

browser: $(VENV)/.dev ## the tests drive a real Chromium; install one if the machine has none
	@sh tests/browser.sh $(BIN)/python

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make a virtual environment; on Debian or Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.demo: $(VENV)/bin/python requirements.txt
	$(BIN)/pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	@touch $@

$(VENV)-ray/.ray: requirements.txt requirements-ray.txt
	@$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/pip install --quiet -r requirements.txt -r requirements-ray.txt
	@touch $@

$(VENV)-lmms/.lmms: lmms/requirements.txt lmms/pyproject.toml
	@$(PYTHON) -m venv $(VENV)-lmms
	$(VENV)-lmms/bin/pip install --quiet -r lmms/requirements.txt
	$(VENV)-lmms/bin/pip install --quiet --no-deps -e lmms
	@# beside a CPU build of torch the index's torchvision does not load, and nothing here needs it
	@$(VENV)-lmms/bin/python -c "import torchvision" 2>/dev/null || $(VENV)-lmms/bin/pip uninstall --quiet --yes torchvision
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-ray $(VENV)-lmms runs screenshots .pytest_cache .mypy_cache .ruff_cache
