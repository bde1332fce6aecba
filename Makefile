# A thin front for CMake: `make help` lists what there is.
JOBS   ?= $(shell nproc)
PREFIX ?= /usr/local
GOLDEN ?= ../shared/golden/distribution
SCENE_GOLDEN ?= ../shared/golden/scene
VIEWS ?= ../shared/data/furniture-views
export JOBS

all: ## build the program: build/release/retort
	@scripts/install-packages --check
	@scripts/build release

dev: ## build with sanitizers: build/dev/retort
	@scripts/install-packages --check
	@scripts/build dev

demo: packages ## download no data: distil a small image model in a few minutes (DEMO_MINUTES=4)
	@scripts/build release
	@scripts/demo

demo-3d: packages ## scenes in three dimensions from words, in a few minutes (DEMO_MINUTES=6)
	@scripts/build release
	@scripts/demo-3d

test: packages ## build, then run every test
	@scripts/test

test-sanitized: packages ## the same tests under address and undefined-behaviour sanitizers
	@scripts/test sanitized

test-debian: ## make test on Debian 12 and 13, in folders filled by debootstrap (root)
	@scripts/test-debian

test-package: ## Debian packages, built on Debian 13 and tried in a folder that has nothing else (root, debootstrap)
	@scripts/test-package

test-emulated: ## the operator walk on an old x86-64 and on 64-bit ARM, emulated by qemu
	@scripts/test-emulated

test-distribution: packages ## objectives of vsd, dmd, sid, f, renyi, critics, guide, cd, ect, scm and meanflow against PyTorch's numbers in GOLDEN (../shared/golden/distribution)
	@scripts/build release
	@build/release/tests/test_golden_distribution "$(GOLDEN)"
	@build/release/tests/test_golden_distribution_critic "$(GOLDEN)"
	@build/release/tests/test_golden_distribution_flow "$(GOLDEN)"

test-scene: packages ## the renderer of scenes against numpy's and PyTorch's numbers in SCENE_GOLDEN (../shared/golden/scene)
	@scripts/build release
	@build/release/tests/test_golden_scene_golden "$(SCENE_GOLDEN)"

bench: packages ## speed of this machine on this work
	@scripts/build release
	@scripts/bench

bench-ranks: packages ## 2 ranks of one thread beside 1 of two, 8 shards beside 1, bytes on the wire (MPI=openmpi or mpich)
	@scripts/build release
	@scripts/bench-ranks

mutants: packages ## plant errors one at a time: each must turn the tests red
	@scripts/mutants

fuzz: packages ## run the fuzz targets (SECONDS_EACH=600)
	@scripts/fuzz

docs: all ## write the generated documents again
	@scripts/generate-docs

solvers: all ## measure every solver: docs/solvers.md and its pictures (minutes)
	@cmake --build build/release --target solvers
	@build/release/solvers models/fashion-mnist docs

divergences: all ## one student per divergence on a mixture: docs/divergences.svg (minutes)
	@scripts/draw-divergences

toys: all ## every method on two exact teachers of points: tables in out/toys, docs/toys-*.svg (what is in out/toys is kept)
	@scripts/toys

flow-maps: all ## a student of two moons by kd, pd, map, cd, scm, meanflow: table on standard output, docs/flow-maps.svg (minutes)
	@scripts/flow-maps

known-objects: all ## scenes of five known objects in VIEWS (../shared/data/furniture-views), against their pictures from other cameras (minutes)
	@cmake --build build/release --target known_objects
	@rm -rf out/known-objects && mkdir -p out/known-objects
	@build/release/known_objects "$(abspath $(VIEWS))" out/known-objects

install: all ## install under PREFIX (default /usr/local; DESTDIR is obeyed)
	@cmake --install build/release --prefix "$(PREFIX)"

uninstall: ## remove what install put under PREFIX
	@scripts/uninstall "$(PREFIX)"

package: ## Debian packages in build/package, and what lintian says of them (dpkg-dev, debhelper, lintian)
	@scripts/package

packages: ## install the Debian or Ubuntu packages that are missing
	@scripts/install-packages

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: all dev demo demo-3d test test-sanitized test-debian test-package test-emulated test-distribution test-scene bench bench-ranks mutants fuzz docs solvers divergences toys flow-maps known-objects install uninstall package packages clean help
