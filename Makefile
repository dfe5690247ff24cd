# make demo    a sample corpus through recipes/quickstart.yaml        make check   all that CI runs
# make test    the fast tests                                         make docs    one page per stage
# make venv    .venv with every extra                                 make clean   sample/ and out/ again
# make truth   harm that we planted: does `curate ablate` see it?     make truth STUDY=aa   two arms that are the same
#
# `make PYTHON=/path/to/python3.12 demo` takes another Python.

PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
# -qq: errors only
INSTALL = .venv/bin/pip install -qq --disable-pip-version-check -c .ci/constraints.txt
# vLLM is left out: its extra, once there is one, comes by hand and needs a GPU or its CPU build
EXTRAS = s3,test,bench,embed,train,eval
REQUIREMENTS = pyproject.toml .ci/constraints.txt

.PHONY: demo test venv check docs golden clean model truth
.NOTPARALLEL:  # one pip at a time
.DELETE_ON_ERROR:

demo: sample/python-docs.warc.gz model
	.venv/bin/curate run recipes/quickstart.yaml

test: .venv/.test model
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

venv: .venv/.all model

check: .venv/.all model
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy --strict curate
	$(MAKE) test
	.venv/bin/python -m pytest -m "slow and not gpu"

STUDY ?= planted_harm
truth: .venv/.all sample/python-docs.warc.gz model
	.venv/bin/curate ablate recipes/truth/$(STUDY).yaml -o out/truth/$(STUDY) --store out/truth/runs

docs: .venv/.demo
	.venv/bin/python scripts/stage_pages.py curate/stages/pages

golden: .venv/.test model
	CURATE_GOLDEN=write .venv/bin/python -m pytest tests/golden
	git --no-pager diff tests/golden

clean:
	rm -rf sample out .mypy_cache .pytest_cache .ruff_cache .hypothesis build

sample/python-docs.warc.gz: scripts/sample_corpus.py | .venv/.demo
	.venv/bin/python scripts/sample_corpus.py $@

model: .venv/.demo
	@.venv/bin/curate models get lid176

# Each stamp says that .venv holds what it names; a change of the requirements makes it stale.
.venv/.python:
	@$(or $(PYTHON),python3) -c '$(NEW_ENOUGH)' || { echo "error: curate needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 demo" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.demo: .venv/.python $(REQUIREMENTS)
	@echo "installing curate and what it needs into .venv: 700 MB, about a minute"
	$(INSTALL) -e .
	@touch $@

.venv/.test: .venv/.python $(REQUIREMENTS)
	$(INSTALL) -e '.[test]'
	@touch .venv/.demo $@

.venv/.all: .venv/.python $(REQUIREMENTS)
	$(INSTALL) -e '.[$(EXTRAS)]'
	@touch .venv/.demo .venv/.test $@
