# The one vocabulary for people and CI. `make help` lists it.
MAKEFLAGS += --no-print-directory
PY := .venv/bin/python
STACK := $(PY) -m local_stack
# what counts is given to make: `make logs SERVICE=s3`; a variable of this name in the shell is some other program's
SERVICE :=
TESTS := tests
.DEFAULT_GOAL := help

# The same for these. In the shell they have a prefix: `export LOCAL_STACK_MLFLOW_PORT=5001`.
define option
ifneq ($$(filter command,$$(origin $(1))),)
export LOCAL_STACK_$(1) := $$(value $(1))
unexport $(1)
endif
endef
$(foreach name,AIRFLOW_PORT MLFLOW_PORT S3_PORT OBJECTS_PORT POSTGRES_PORT REDIS_PORT EXECUTOR PYTHON,$(eval $(call option,$(name))))

# Python itself reads PYTHONPATH, PYTHONHOME and the like, before local_stack/shell.py can choose
unexport $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install everything into this folder (Python 3.11 to 3.13; PYTHON=... names one)
	@sh local_stack/setup.sh

.PHONY: demo
demo: setup ## Install, start everything, run the pipelines, show the results
	@$(STACK) demo

.PHONY: start
start: setup ## Start the stack: PostgreSQL, S3, MLflow, Airflow (MLFLOW_PORT=5001 moves a port; AIRFLOW_PORT, S3_PORT, OBJECTS_PORT, POSTGRES_PORT)
	@$(STACK) start

.PHONY: stop
stop: ## Stop the stack; its data stay
	@[ ! -x $(PY) ] || $(STACK) stop

.PHONY: status
status: setup ## Tell what runs where and since when
	@$(STACK) status

.PHONY: logs
logs: setup ## Follow the services' logs (SERVICE=scheduler for one)
	@$(STACK) logs $(SERVICE)

.PHONY: open
open: setup ## Open Airflow and MLflow in the browser
	@$(STACK) open

.PHONY: doctor
doctor: setup ## Check every service and connection, each with what mends it
	@$(STACK) doctor

.PHONY: screenshots
screenshots: setup ## Make the pictures of docs/images anew from the running stack (after make demo; needs Chromium)
	@$(STACK) run tests.browser.screenshots

# Three processes: one for each pipeline on the session's stack, and one for what needs no stack (tests/conftest.py)
PYTEST := $(PY) -m pytest -n 3 --no-loadscope-reorder

.PHONY: test
test: setup lint ## Run the linters and the tests, on real services (TESTS=tests/unit for a part)
	@$(PYTEST) -m "not faults" $(TESTS)

.PHONY: test-faults
test-faults: setup ## Run the tests that break more: every kill, PostgreSQL, a full disk, Celery workers, stacks of their own
	@$(PYTEST) -m faults $(TESTS)

.PHONY: lint
lint: setup ## Check style (ruff), types (mypy), workflows (actionlint), and that no secret is committed (detect-secrets)
	@$(PY) -m ruff check --quiet . && $(PY) -m ruff format --check --quiet . && $(PY) -m mypy --no-error-summary
	@.venv/bin/actionlint .github/workflows/*.yml
	@git ls-files -z -- . ':!*.lock' ':!*requirements.txt' ':!*.png' | xargs -0 $(PY) -m detect_secrets.pre_commit_hook --no-verify

.PHONY: requirements
requirements: setup ## Write requirements.txt and local_stack/bootstrap-requirements.txt from uv.lock, after it has changed
	@sed -n 's|^#    uv |.venv/bin/uv |p' requirements.txt | sh >/dev/null
	@.venv/bin/uv export --frozen --only-group bootstrap --no-header \
		--output-file local_stack/bootstrap-requirements.txt >/dev/null

.PHONY: audit
audit: setup ## Look for published vulnerabilities of the locked packages (asks osv.dev; accepted ones: docs/decisions/0010)
	@$(PY) local_stack/shell.py .venv/bin/uv audit --frozen
	@$(PY) local_stack/shell.py .venv/bin/uv audit --frozen --project local_stack/mlflow_server

.PHONY: bench
bench: setup ## Measure how long the pipelines take, on a stack of its own; writes docs/benchmarks.md (about 20 minutes)
	@$(STACK) run local_stack.bench

.PHONY: bench-scale
bench-scale: setup ## Measure how time and memory grow with the data; writes docs/benchmarks-scale.md
	@$(STACK) run local_stack.bench scale

.PHONY: format
format: setup ## Format the code and mend what ruff can
	@$(PY) -m ruff check --fix . && $(PY) -m ruff format .

.PHONY: clean
clean: ## Stop the stack and remove all that it has stored
	@[ ! -x $(PY) ] || $(STACK) clean

.PHONY: distclean
distclean: clean ## Remove the installed environments too
	rm -rf .venv .venv-mlflow
