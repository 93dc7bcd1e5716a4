# Everything sets itself up first (tools/setup.sh), into folders that git ignores:
#   .venv          the packages of requirements/, a ROS 2 from wheels, vision_msgs
#   .venv-oldest   the oldest numpy and OpenCV, laid over .venv
#   .ros           colcon's build, install and log of this package, and setup.log
# `. ./env.sh` then gives a shell with all of it.
#
#   make PYTHON=/path/to/python3        another interpreter (3.10 to 3.13)
#   make NAV_MONITOR_ROS=wheels         not the ROS 2 under /opt/ros, if there is one

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-oldest lint pins clean

export PYTHON NAV_MONITOR_ROS
# What the caller's shell has sourced must not decide what is run here.
unexport PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

help:
	@echo 'make demo         watch a camera feed being classified and strange input being flagged'
	@echo 'make test         all tests, then test-oldest and lint'
	@echo 'make test-oldest  the tests without ROS, under the oldest numpy and OpenCV of robots'
	@echo 'make lint         ruff and mypy'
	@echo 'make setup        what the others do first; then: . ./env.sh'
	@echo 'make pins         write requirements/constraints.txt from .venv'
	@echo 'make clean        remove what set-up and runs have made'

setup:
	@tools/setup.sh

demo: setup
	@. ./env.sh && python tools/demo.py

# On every core; a file's tests stay together, for what they share. Those of ROS wait for half of
# their time, so two of them share a core.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile
PARALLEL_ROS := -n $$((2 * $$(nproc) < 8 ? 2 * $$(nproc) : 8)) --dist loadfile

test:
	@tools/setup.sh --tests
	@. ./env.sh && python -m pytest $(PARALLEL) -m 'not ros' test
	@. ./env.sh && python -m pytest $(PARALLEL_ROS) -m ros test
	@$(MAKE) --no-print-directory test-oldest
	@$(MAKE) --no-print-directory lint

# rclpy can be imported here too (the libraries are on the loader's path), so that a module with
# both kinds of tests is collected. Without .venv-oldest set-up has said why there is none.
test-oldest:
	@tools/setup.sh --oldest
	@[ ! -e .venv-oldest ] || { . ./env.sh && \
	  export LD_LIBRARY_PATH="$$(python -c 'import os; print(os.environ.get("LD_LIBRARY_PATH", ""))')" && \
	  .venv-oldest/bin/python -c 'import cv2, numpy; print(f"test-oldest: numpy {numpy.__version__}, OpenCV {cv2.__version__}")' && \
	  NAV_MONITOR_OLDEST=1 .venv-oldest/bin/python -m pytest $(PARALLEL) \
	    -m 'not ros and not browser and not ray and not once' test; }

lint: setup
	@. ./env.sh && ruff check . && mypy

pins: setup
	@.venv/bin/python tools/pins.py

clean:
	rm -rf .venv .venv-oldest .ros .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
