# make train [VARIANT=CVSM-AH] [PRESET=laptop] [SEED=0] [CORPUS=studio] [ROOT=]   train a variant, from nothing
# make test                                                                       check style, run every notebook and test
# make notebooks                                                                  export the library, link, clean, and rewrite README.md
# make book                                                                       the notebooks as a site: open _book/index.html

VARIANT ?= CVSM-AH
PRESET ?= laptop
SEED ?= 0
CORPUS ?= studio
ROOT ?=
PYTHON ?= python3
BIN := .venv/bin
REQUIREMENTS := -c constraints.txt -e ".[test,book]"
HERE := PATH="$(CURDIR)/$(BIN):$$PATH"
# papermill without its own traceback: the notebook's last line says what is wrong
PAPERMILL := python -c "import sys; sys.tracebacklimit = 0; from papermill.__main__ import papermill; papermill()"
EXECUTED := runs/train-$(VARIANT)-$(CORPUS)-$(PRESET)-s$(SEED).ipynb

.PHONY: train test notebooks book install clean
.DEFAULT_GOAL := train

# `make train variant=COLA` would train CVSM-AH without a word
KNOWN := VARIANT PRESET SEED CORPUS ROOT PYTHON
NAMES := $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
UNKNOWN := $(foreach name,$(filter-out $(KNOWN),$(NAMES)),$(if $(findstring /,$(name)),,$(name)))
$(if $(UNKNOWN),$(error unknown $(UNKNOWN); choose among $(KNOWN)))

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
	$(HERE) $(PAPERMILL) nbs/train.ipynb "$(EXECUTED)" --kernel python3 --log-output --no-progress-bar \
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
	$(HERE) python nbs/book/sources.py links
	$(HERE) nbdev_clean
	$(HERE) jupyter nbconvert --to markdown --TagRemovePreprocessor.enabled=True \
	  --TagRemovePreprocessor.remove_input_tags=remove-input --TagRemovePreprocessor.remove_cell_tags=remove-cell \
	  --output-dir . --output README nbs/index.ipynb
	sed -i.bak 's#](\.\./#](#g' README.md && rm README.md.bak

book: .venv/installed
	$(HERE) python nbs/book/sources.py book build/book
	$(HERE) sphinx-build --quiet --jobs 2 -W --keep-going -c nbs/book -d build/doctrees build/book build/site
	rm -rf _book && mv build/site _book
	@echo "open _book/index.html"

clean:
	rm -rf build _book runs stores embeddings maps scores backends reproductions .pytest_cache
