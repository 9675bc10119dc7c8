# make demo, make test: everything they need is installed into .venv first. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
VENV_PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.mtl_d2_installed
THIRD_PARTY := $(shell find third_party -type f -not -path '*/__pycache__/*')
PYTEST_ARGS ?=
# More threads than this gain nothing on the small networks of the tests.
TEST_ENV := OMP_NUM_THREADS=2
DEMO := output/demo
DEMO_CONFIG := configs/shapes/demo.yaml
# Of one thread each: twice the images in less than twice the time that one process of two threads takes.
DEMO_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv test test-slow demo compare lint typecheck wheelhouse clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

venv: $(STAMP) ## make .venv with all that is needed (PYTHON=python3.12 chooses the Python, VENV=dir the folder)

$(STAMP): $(VENV_PYTHON) setup.py pyproject.toml tools/make_venv.py $(THIRD_PARTY)
	@$(PYTHON) tools/make_venv.py $(VENV)
	@touch $@

# Where it is missing or a broken link, the environment is made again.
$(VENV_PYTHON): ;

test: venv ## the default tests, offline on a CPU, the lint and the type check (PYTEST_ARGS="-k edge" for some of them)
	@$(TEST_ENV) $(VENV_PYTHON) -m pytest $(PYTEST_ARGS)
	@$(VENV_PYTHON) -m ruff check --quiet .
	@$(VENV_PYTHON) -m mypy --no-error-summary mtl_d2

test-slow: venv ## the slow tests: minutes on a CPU, and a package index
	@$(TEST_ENV) $(VENV_PYTHON) -m pytest -m "slow and not gpu" $(PYTEST_ARGS)

# The demo's data and results stay in this folder, whatever DETECTRON2_DATASETS says outside.
demo: export DETECTRON2_DATASETS = $(CURDIR)/datasets
demo: venv ## train instances, semantics and edges on synthetic shapes, draw them, and print the figures
	@echo "demo 1/6: writing the shapes dataset into $(DETECTRON2_DATASETS)/shapes"
	@$(VENV_PYTHON) tools/make_shapes.py
	@echo "demo 2/6: training $(DEMO_CONFIG) into $(DEMO)"
	@$(VENV_PYTHON) tools/train_net.py --num-gpus $(DEMO_PROCESSES) --config-file $(DEMO_CONFIG) OUTPUT_DIR $(DEMO)
	@echo "demo 3/6: drawing labels and predictions into $(DEMO)/panels"
	@$(VENV_PYTHON) tools/draw_panels.py --config-file $(DEMO_CONFIG) --weights $(DEMO)/model_final.pth \
		--output $(DEMO)/panels --num-images 12
	@echo "demo 4/6: scoring the Sobel filter, the floor for the edges"
	@$(VENV_PYTHON) tools/edge_floor.py shapes_val --output $(DEMO)/sobel
	@echo "demo 5/6: drawing the curves of the run into $(DEMO)/plots"
	@$(VENV_PYTHON) tools/plot_run.py $(DEMO) --output $(DEMO)/plots
	@echo "demo 6/6: the figures of $(DEMO)/report.json"
	@$(VENV_PYTHON) tools/write_results.py --print $(DEMO)

compare: export DETECTRON2_DATASETS = $(CURDIR)/datasets
compare: venv ## joint networks beside single ones on small shapes: table and plots in output/compare/shapes (hours; goes on)
	@$(VENV_PYTHON) tools/make_shapes.py --easy
	@$(VENV_PYTHON) tools/compare_runs.py configs/compare/shapes.yaml --jobs 2

lint: venv ## ruff
	@$(VENV_PYTHON) -m ruff check .

typecheck: venv ## mypy
	@$(VENV_PYTHON) -m mypy mtl_d2

wheelhouse: venv ## the wheels that a machine without a network lacks (PY=3.12 HAVE=FILE, its pip list --format=freeze)
	@$(VENV_PYTHON) tools/make_wheelhouse.py $(if $(PY),--python $(PY)) $(if $(HAVE),--have $(HAVE)) \
		$(if $(PLATFORM),--platform $(PLATFORM)) $(if $(ABI),--abi $(ABI))

clean: ## remove caches and build leftovers; .venv, datasets and output stay
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
