# xtalfill: everything a newcomer needs. `make` alone lists the targets.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full lint bench images tables clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 14

setup: ## make .venv and find or resolve Nextflow (a second run takes no time)
	@tools/setup.sh

demo: setup ## restore the hydrogen of six real crystals
	nextflow run main.nf -profile demo --outdir results/demo
	@echo "Report: $(CURDIR)/results/demo/report.html"

test: setup ## lint, types, pytest and the nf-test suites
	@tools/test.sh

test-full: setup ## the above with the suites that take minutes to hours, and the images through Slurm where they are built
	@tools/test.sh full

lint: setup ## formatting, lint and types only
	@tools/test.sh lint

bench: setup ## time RELAX against a serial loop with ASE; half an hour on a quiet machine
	tools/bench_relax.py --mlip 7net-0 --output results/bench_7net-0.json
	tools/bench_relax.py --mlip assets/potential/nequip-small.nequip.zip --output results/bench_nequip-small.json

images: ## build the Apptainer images; MIRROR=URL of a Debian mirror, OUTPUT=folder, IMAGES=names are options
	@containers/build.sh $(if $(MIRROR),--mirror $(MIRROR)) $(if $(OUTPUT),--output $(OUTPUT)) $(IMAGES)

tables: ## write the tables of the documentation from docs/benchmarks/data
	tools/make_tables.py

clean: ## remove what runs and tests leave behind; keeps .venv, .tools and results
	rm -rf work .nextflow .nextflow.log* .nf-test .nf-test.log build bin/*.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find bin tests -name __pycache__ -type d -prune -exec rm -rf {} +
