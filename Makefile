# Everything runs in .venv, which `make env` creates. PYTHON=python3.11 make env chooses the Python.

.DEFAULT_GOAL := help
SHELL := bash
# A process per core, up to 4, with one thread each.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist worksteal

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.PHONY: env
env: ## Create .venv with the pinned packages (once about 8 minutes on two cores)
	@tools/env/setup_env.sh

.PHONY: demo
demo: env ## Train RetinaNet with Meta-ACON on handwritten digits; TASK=segmentation: PSPNet
	@TASK="$(TASK)" PYTHON="$(CURDIR)/.venv/bin/python" bash tools/demo.sh

.PHONY: test
test: env ## Run all tests except the slow ones; PYTEST_ARGS='-k acon' selects some
	@$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

.PHONY: test-all
test-all: env ## Run all tests, the slow ones too: every config, every width
	@$(PYTEST) $(PYTEST_ARGS)

.PHONY: checkstyle
checkstyle: env ## Check the code: style, format and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

.PHONY: clean
clean: ## Remove the files that builds and tests leave behind
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find acon_mm configs tests tools -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove .venv as well; trained models and data stay
	rm -rf .venv
