# Each target first runs the set-up (tools/setup.sh), which writes to folders that git ignores:
#   .venv          the packages of requirements/, a ROS 2 from wheels, vision_msgs and bond
#   .venv-oldest   the oldest numpy and OpenCV, over .venv
#   .ros           colcon's build, install and log of this package, and setup.log
# Afterwards, `. ./env.sh` activates the environment in a shell.
#
#   make PYTHON=/path/to/python3        another interpreter (3.10 to 3.13)
#   make NAV_MONITOR_ROS=wheels         ROS 2 from wheels, even if there is one under /opt/ros

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo drive test test-oldest lint pins clean

export PYTHON NAV_MONITOR_ROS
# The targets must not depend on setup files that the caller's shell has sourced.
unexport PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

help:
	@echo 'make demo         watch a camera feed being classified and strange input being flagged'
	@echo 'make drive        watch a simulated robot stop before an object that it has never seen'
	@echo 'make test         all tests, then test-oldest and lint'
	@echo 'make test-oldest  the tests without ROS, under the oldest numpy and OpenCV of robots'
	@echo 'make lint         ruff and mypy'
	@echo 'make setup        the set-up that the other targets run first; then: . ./env.sh'
	@echo 'make pins         write requirements/constraints.txt from .venv'
	@echo 'make clean        remove the files of the set-up and of test runs'

setup:
	@tools/setup.sh

demo: setup
	@. ./env.sh && python tools/demo/demo.py

drive:
	@tools/setup.sh --drive
	@. ./env.sh && python tools/demo/drive.py

# On every core; the tests of a file run in one process, because they share fixtures. Tests of ROS
# wait for half of their time, so two processes share a core.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile
PARALLEL_ROS := -n $$((2 * $$(nproc) < 8 ? 2 * $$(nproc) : 8)) --dist loadfile

test:
	@tools/setup.sh --tests
	@. ./env.sh && python -m pytest $(PARALLEL) -m 'not ros' test
	@. ./env.sh && python -m pytest $(PARALLEL_ROS) -m ros test
	@$(MAKE) --no-print-directory test-oldest
	@$(MAKE) --no-print-directory lint

# rclpy can be imported here too (its libraries are on the loader's path), so that modules with both
# kinds of tests can be collected. If .venv-oldest is missing, the set-up has printed the reason.
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
