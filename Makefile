# make train [VARIANT=CVSM-AH] [PRESET=laptop] [SEED=0] [CORPUS=studio] [ROOT=]   train a variant, from nothing
# make test                                                                       check style, run every notebook and test
# make notebooks                                                                  export the library, clean, and rewrite README.md

VARIANT ?= CVSM-AH
PRESET ?= laptop
SEED ?= 0
CORPUS ?= studio
ROOT ?=
PYTHON ?= python3
BIN := .venv/bin
REQUIREMENTS := -c constraints.txt -e ".[test]"
HERE := PATH="$(CURDIR)/$(BIN):$$PATH"
EXECUTED := runs/train-$(VARIANT)-$(CORPUS)-$(PRESET)-s$(SEED).ipynb

.PHONY: train test notebooks install clean
.DEFAULT_GOAL := train

install: .venv/installed

# uv installs in a third of pip's time: the one on the PATH, else one inside .venv; pip itself where uv finds no packages
.venv/installed: pyproject.toml constraints.txt
	@test -d .venv || { command -v uv >/dev/null && uv venv --seed --python $(PYTHON) .venv; } || $(PYTHON) -m venv .venv
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv || true
	@PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --python .venv $(REQUIREMENTS) || \
	  $(BIN)/python -m pip install --disable-pip-version-check $(REQUIREMENTS)
	@touch $@

train: .venv/installed
	@mkdir -p runs
	$(HERE) papermill nbs/train.ipynb "$(EXECUTED)" --kernel python3 --log-output --no-progress-bar \
	  -p variant "$(VARIANT)" -p preset "$(PRESET)" -p seed $(SEED) -p corpus "$(CORPUS)" -r root "$(ROOT)"
	@echo "executed notebook: $(EXECUTED)"

# the stores and runs that notebooks share are made first, so that no notebook waits for another
test: .venv/installed
	$(HERE) ruff check
	$(HERE) python .ci/smoke.py
	$(HERE) OMP_NUM_THREADS=1 nbdev_test --n_workers 2 --timing
	$(HERE) OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --durations 15

notebooks: .venv/installed
	$(HERE) nbdev_export
	$(HERE) nbdev_clean
	$(HERE) jupyter nbconvert --to markdown --TemplateExporter.exclude_code_cell=True --output-dir . --output README nbs/index.ipynb
	sed -i.bak 's#](\.\./#](#g' README.md && rm README.md.bak

clean:
	rm -rf runs stores embeddings maps scores reproductions .pytest_cache
