# make train [VARIANT=CVSM-AH] [PRESET=laptop] [SEED=0] [CORPUS=studio] [ROOT=]   train a variant, from nothing
# make test                                                                       run every test
# make notebooks                                                                  export the library, clean, and rewrite README.md

VARIANT ?= CVSM-AH
PRESET ?= laptop
SEED ?= 0
CORPUS ?= studio
ROOT ?=
PYTHON ?= python3
BIN := .venv/bin
EXECUTED := runs/train-$(VARIANT)-$(CORPUS)-$(PRESET)-s$(SEED).ipynb

.PHONY: train test notebooks install clean
.DEFAULT_GOAL := train

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  { test -d .venv || uv venv --python $(PYTHON) .venv; } && uv pip install --python .venv -c constraints.txt -e ".[test]"; \
	else \
	  { test -d .venv || $(PYTHON) -m venv .venv; } && $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[test]"; \
	fi
	@touch $@

train: .venv/installed
	@mkdir -p runs
	PATH="$(CURDIR)/$(BIN):$$PATH" papermill nbs/train.ipynb "$(EXECUTED)" --kernel python3 --log-output --no-progress-bar \
	  -p variant "$(VARIANT)" -p preset "$(PRESET)" -p seed $(SEED) -p corpus "$(CORPUS)" -r root "$(ROOT)"
	@echo "executed notebook: $(EXECUTED)"

test: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 nbdev_test --n_workers 2
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest

notebooks: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" nbdev_export
	PATH="$(CURDIR)/$(BIN):$$PATH" nbdev_clean
	PATH="$(CURDIR)/$(BIN):$$PATH" jupyter nbconvert --to markdown --output-dir . --output README nbs/index.ipynb
	sed -i.bak 's#](\.\./#](#g' README.md && rm README.md.bak

clean:
	rm -rf runs stores embeddings maps scores reproductions .pytest_cache
