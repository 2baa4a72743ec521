# Targets for users and developers; `make` lists them.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo textbook test test-full lint docs docs-site bench images tables clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 14

setup: ## create .venv and find or install Nextflow
	@tools/setup.sh

demo: setup ## restore the hydrogen of six real crystals
	nextflow run main.nf -profile demo --outdir results/demo
	@echo "Report: $(CURDIR)/results/demo/report.html"

textbook: setup ## restore the hydrogen of thirty well-known crystals (an hour)
	nextflow run main.nf -profile textbook -resume
	@PYTHONPATH=bin tools/textbook_table.py results/textbook --output results/textbook/textbook.json
	@echo "Report: $(CURDIR)/results/textbook/report.html"

test: setup ## lint, types, pytest and the nf-test suites
	@tools/test.sh

test-full: setup ## also the slow tests (minutes to hours), and the images with Slurm if they are built
	@tools/test.sh full

lint: setup ## formatting, lint and types only
	@tools/test.sh lint

docs: setup ## generate the tables of columns and parameters, and CITATIONS.md
	PYTHONPATH=bin tools/make_docs.py

docs-site: setup ## build the site of the documentation: build/site/html
	.venv/bin/pip install -q -c requirements/constraints.txt -r requirements/docs.txt
	tools/make_site.py

bench: setup ## compare with other programs, one table (20 minutes); peers: XTALPAINT=, NEQUIX=, NEQUIX_PYTHON=, NQX=
	tools/bench.py --xtalpaint "$(XTALPAINT)" --nequix "$(NEQUIX)" --nequix_python "$(NEQUIX_PYTHON)" \
		--nqx "$(NQX)" --output results/bench.json
	tools/roofline.py --output results/roofline.json

images: ## build the Apptainer images; options: MIRROR=URL of a Debian mirror, OUTPUT=folder, IMAGES=names
	@containers/build.sh $(if $(MIRROR),--mirror $(MIRROR)) $(if $(OUTPUT),--output $(OUTPUT)) $(IMAGES)

tables: ## write the tables of the documentation from docs/benchmarks/data
	tools/make_tables.py

clean: ## remove temporary files of runs and tests; keeps .venv, .tools and results
	rm -rf work .nextflow .nextflow.log* .nf-test .nf-test.log build bin/*.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find bin tests -name __pycache__ -type d -prune -exec rm -rf {} +
