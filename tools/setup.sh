#!/usr/bin/env bash
# Sets up this checkout; later runs redo only the steps whose inputs have changed.
#
#   tools/setup.sh            .venv with the pinned packages and a ROS 2, vision_msgs and bond if
#                             ROS 2 lacks them, this package built by colcon into .ros/
#   tools/setup.sh --drive    the same, and the Debian packages that the simulator needs
#   tools/setup.sh --tests    the same, and the Debian packages that the tests need
#   tools/setup.sh --oldest   the same, and .venv-oldest with the oldest numpy and OpenCV over .venv
#
# A ROS 2 under /opt/ros is used if there is one (ROS_DISTRO selects one of several); otherwise
# ROS 2 is installed from wheels. NAV_MONITOR_ROS=/path/to/setup.bash selects another ROS 2,
# NAV_MONITOR_ROS=wheels the wheels. PYTHON=python3.12 selects the interpreter.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
state="$venv/.nav_monitor"
workspace="$root/.ros"
log="$workspace/setup.log"
message_packages=(vision_msgs bond) # folders of tools/
# The simulator renders by libegl1 with Mesa's software renderer.
simulator_packages=(libegl1 libgl1 libgl1-mesa-dri)
test_packages=(chromium chromium-driver dataset-fashion-mnist zsh "${simulator_packages[@]}")

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 1
}

# ---------------------------------------------------------------- system packages

# Runs apt-get with the prefix in the array become_root, and repeats it while another process holds
# one of apt's locks: a new machine's automatic updates hold them for a while, and
# DPkg::Lock::Timeout waits for only one of them.
apt_get() { # arguments of apt-get
  local attempt before
  for attempt in {1..30}; do
    before=$(wc -c <"$log")
    "${become_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -q -o DPkg::Lock::Timeout=300 "$@" && return
    tail -c "+$((before + 1))" "$log" | grep 'Could not get lock' >/dev/null || return
    say "waiting for another apt-get to end ($attempt)"
    sleep "${NAV_MONITOR_APT_PAUSE:-10}"
  done
  return 1
}

# Installs Debian packages as root, or fails with one line that states the command to run.
install_debian() { # reason, packages...
  local reason=$1
  shift
  local become_root=()
  command -v apt-get >/dev/null || fail "$reason: install the equivalents of the Debian packages $*"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || fail "$reason: run 'sudo apt-get install $*' and try again"
    become_root=(sudo -n)
  fi
  say "$reason: installing the Debian packages $*"
  {
    apt_get update || true # the package lists may already be sufficient
    apt_get install -y --no-install-recommends "$@"
  } </dev/null >>"$log" 2>&1 ||
    fail "apt-get could not install $*: check the network (see the last lines of $log)"
}

# Prints the setup script of the ROS 2 to use; nothing for the wheels.
find_ros() {
  local candidate
  case "${NAV_MONITOR_ROS:-}" in
    wheels) return ;;
    ?*)
      [ -e "$NAV_MONITOR_ROS" ] || fail "NAV_MONITOR_ROS: file $NAV_MONITOR_ROS does not exist"
      echo "$NAV_MONITOR_ROS"
      return
      ;;
  esac
  for candidate in "/opt/ros/${ROS_DISTRO:-}" $(printf '%s\n' /opt/ros/* | sort -r); do
    # rclpy distinguishes ROS 2 from ROS 1.
    if [ -e "$candidate/setup.bash" ] &&
      [ -e "$candidate/share/ament_index/resource_index/packages/rclpy" ]; then
      echo "$candidate/setup.bash"
      return
    fi
  done
}

# Prints the first interpreter of a supported version.
find_python() {
  local candidate candidates=(python3 python3.12 python3.11 python3.10 python3.13)
  # A distribution's ROS 2 is built for the distribution's own Python.
  [ -z "$ros" ] || candidates=(/usr/bin/python3)
  # By default, an existing environment keeps its interpreter.
  if [ "$(cat "$state/ros_setup" 2>/dev/null)" = "$ros" ]; then
    candidates=("$(cat "$state/python" 2>/dev/null || echo python3)" "${candidates[@]}")
  fi
  for candidate in ${PYTHON:-"${candidates[@]}"}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
      2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.10 to 3.13 found (looked for ${PYTHON:-python3}):" \
    "install one, or pass its path: make PYTHON=/path/to/python3"
}

require_venv_module() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    install_debian "$python cannot create virtual environments" "python3-venv"
}

require_compiler() {
  local headers missing=()
  if ! { command -v "${CC:-cc}" && command -v "${CXX:-c++}" && command -v make; } >/dev/null; then
    missing+=(g++ make)
  fi
  headers="$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
  [ -e "$headers/Python.h" ] || missing+=(python3-dev)
  if [ ${#missing[@]} -gt 0 ]; then
    install_debian "building messages needs a C++ compiler and Python's headers" "${missing[@]}"
  fi
}

require_packages() { # what needs them, packages...
  local reason="$1" package missing=()
  shift
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    install_debian "$reason ${missing[*]}" "${missing[@]}"
  fi
}

# ---------------------------------------------------------------- stamps

hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
is_current() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; } # stamp file, expected content

# ---------------------------------------------------------------- Python packages

# Runs pip; the terminal shows only large downloads and, on failure, one line with the reason.
install_wheels() { # environment, pip arguments...
  local bin="$1/bin"
  shift
  "$bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" \
    </dev/null 2>&1 | tee -a "$log" |
    awk '/Downloading .*\(([0-9.]+ GB|[0-9][0-9][0-9]+\.[0-9]+ MB)\)/ { sub(/^ */, "  "); print; fflush() }' ||
    fail "$(explain_pip)"
}

explain_pip() {
  local tail_of_log
  tail_of_log="$(tail -n 60 "$log")"
  case "$tail_of_log" in
    *"No space left"*) echo "no space left on the disk: the environment takes about 7 GB" ;;
    *"onnection"* | *"name resolution"* | *"unreachable"* | *"imed out"*)
      echo "no network: pip cannot reach the package index; connect, or set PIP_INDEX_URL to a" \
        "mirror (see $log)"
      ;;
    *) echo "pip: $(grep -a 'ERROR' "$log" | tail -n 1) (see $log)" ;;
  esac
}

make_environment() {
  local machine requirements
  machine="$root $("$python" -VV) $ros"
  requirements="$(hash_of requirements/dev.txt requirements/ros.txt requirements/constraints.txt)"
  if ! is_current "$state/machine" "$machine" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    say "creating .venv with $("$python" -V)"
    rm -rf "$venv" "$root/.venv-oldest"
    # A distribution's ROS 2 needs the distribution's numpy, OpenCV and PyYAML.
    "$python" -m venv ${ros:+--system-site-packages} "$venv" >>"$log" 2>&1 ||
      fail "$python cannot create virtual environments: install python3-venv (see $log)"
    mkdir "$state"
    echo "$machine" >"$state/machine"
    echo "$ros" >"$state/ros_setup"
    echo "$python" >"$state/python"
  fi
  if ! is_current "$state/requirements" "$requirements"; then
    rm -f "$state/ready" "$state/requirements"
    say "installing the Python packages: the first time, this takes some minutes and 7 GB"
    if [ -n "$ros" ]; then
      install_beside_distribution
    else
      install_wheels "$venv" -c requirements/constraints.txt \
        -r requirements/dev.txt -r requirements/ros.txt
      repair_ros_wheels
    fi
    echo "$requirements" >"$state/requirements"
  fi
}

# With a distribution's ROS 2, numpy and OpenCV are the distribution's, too: cv_bridge is compiled
# for them.
install_beside_distribution() {
  local numpy
  numpy="$("$python" -c 'import numpy, cv2; print(numpy.__version__)' 2>>"$log")" ||
    fail "the distribution's numpy or OpenCV is missing: run" \
      "'sudo apt-get install python3-numpy python3-opencv' and try again"
  # Pins for a newer numpy are dropped; those of packages that must match each other are kept.
  grep -E '^(setuptools|torch|torchvision)==' requirements/constraints.txt >"$state/constraints.txt"
  echo "numpy==$numpy" >>"$state/constraints.txt"
  grep -v -x 'opencv-python-headless' requirements/dev.txt >"$state/dev.txt"
  install_wheels "$venv" -c "$state/constraints.txt" -r "$state/dev.txt"
}

# The wheels' CMake files contain the include folders of the machine that built them.
repair_ros_wheels() {
  local include site
  include="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
  site="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
  { grep -rlZ '/opt/python/cp' "$venv/share" --include='*.cmake' || true; } | xargs -0 -r sed -i -E \
    -e "s#/opt/python/cp3[0-9]+-cp3[0-9]+/include/python3\.[0-9]+#$include#g" \
    -e "s#/opt/python/cp3[0-9]+-cp3[0-9]+/lib/python3\.[0-9]+/site-packages#$site#g"
}

# ---------------------------------------------------------------- building

# Runs a command with the ROS 2 of this checkout instead of the caller's.
in_ros() {
  (
    set +u
    # shellcheck disable=SC1090
    [ -z "$ros" ] || . "$ros"
    export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv"
    export AMENT_PREFIX_PATH="$venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
    export CMAKE_PREFIX_PATH="$venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
    "$@"
  )
}

messages_hash() { hash_of "tools/$1"/{package.xml,CMakeLists.txt,msg/*}; } # package

provides() { # package
  local prefix
  for prefix in $(in_ros printenv AMENT_PREFIX_PATH | tr ':' ' '); do
    [ ! -e "$prefix/share/ament_index/resource_index/packages/$1" ] || return 0
  done
  return 1
}

# Those built here are in .venv and have a stamp; a package without a stamp belongs to ROS 2.
must_build() { # package
  ! is_current "$state/$1" "$(messages_hash "$1")" && { [ -e "$state/$1" ] || ! provides "$1"; }
}

must_build_messages() {
  local package
  for package in "${message_packages[@]}"; do
    ! must_build "$package" || return 0
  done
  return 1
}

build_messages() { # package
  local build="$workspace/build/$1"
  say "building $1"
  rm -rf "$build"
  {
    in_ros cmake -S "tools/$1" -B "$build" -DCMAKE_INSTALL_PREFIX="$venv" \
      -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$venv/bin/python" &&
      in_ros cmake --build "$build" --parallel "$(nproc)" &&
      in_ros cmake --install "$build"
  } >>"$log" 2>&1 || fail "building $1 failed: see the last lines of $log" \
    "${ros:+(or install ros-DISTRO-${1//_/-})}"
  messages_hash "$1" >"$state/$1"
}

# With --symlink-install, edits of existing files take effect immediately. Added or removed files
# and changes of the installation need a build, which starts from scratch, so that nothing of a
# removed file remains.
build_package() {
  local key
  key="$(
    find launch config bundles resource nav_monitor_ros -name __pycache__ -prune -o -print |
      LC_ALL=C sort | cat - setup.py setup.cfg package.xml "$state/machine" | sha256sum
  )"
  if is_current "$workspace/stamp" "$key" && [ -e "$workspace/install/local_setup.bash" ]; then
    return
  fi
  say "building nav_monitor_ros"
  rm -rf "$workspace/stamp" "$workspace/install" "$workspace/build/nav_monitor_ros"
  (
    cd "$workspace"
    in_ros colcon --log-base log build --base-paths "$root" --packages-select nav_monitor_ros \
      --symlink-install
  ) >>"$log" 2>&1 || fail "colcon could not build the package: see the last lines of $log"
  link_command_line
  echo "$key" >"$workspace/stamp"
}

# The command line does not need ROS 2, so that it is installed in .venv.
link_command_line() {
  local site
  site="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
  echo "$root" >"$site/nav_monitor_ros_checkout.pth"
  cat >"$venv/bin/nav_monitor" <<SCRIPT
#!$venv/bin/python
import sys

from nav_monitor_ros.cli.command import main

sys.exit(main())
SCRIPT
  chmod +x "$venv/bin/nav_monitor"
}

# ---------------------------------------------------------------- the oldest numpy and OpenCV

make_oldest_environment() {
  local oldest="$root/.venv-oldest" key site
  if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
    say "test-oldest is skipped: numpy 1.26 has no wheel for $("$venv/bin/python" -V);" \
      "run it with 'make PYTHON=python3.12 test-oldest' (or 3.10, 3.11)"
    rm -rf "$oldest"
    return
  fi
  key="$(hash_of requirements/oldest.txt "$state/machine" "$state/requirements")"
  ! is_current "$oldest/stamp" "$key" || return 0
  say "creating .venv-oldest: $(grep -v '^#' requirements/oldest.txt | paste -s -d ' ')"
  rm -rf "$oldest"
  "$python" -m venv "$oldest" >>"$log" 2>&1 || fail "could not create .venv-oldest (see $log)"
  install_wheels "$oldest" --only-binary :all: -r requirements/oldest.txt
  site="$("$oldest/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
  # Folders in a path file have lower precedence: only numpy and OpenCV come from .venv-oldest.
  "$venv/bin/python" -c 'import sys; print(*sys.path, sep="\n")' | grep -- '-packages$' \
    >"$site/beneath.pth"
  echo "$root" >>"$site/beneath.pth"
  echo "$key" >"$oldest/stamp"
}

# ---------------------------------------------------------------- main

main() {
  local want="${1:-}" package
  cd "$root"
  mkdir -p "$workspace"
  # Only one set-up may run at a time, because both would write the same files.
  if command -v flock >/dev/null; then
    exec 9>"$workspace/lock"
    flock -n 9 || {
      say "waiting for another set-up of this checkout"
      flock 9
    }
  fi
  # The caller's shell may have a ROS 2 or this environment activated.
  unset PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH VIRTUAL_ENV \
    LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
  PATH="$(tr ':' '\n' <<<"$PATH" | grep -v -x -F "$venv/bin" | paste -s -d ':')"

  ros="$(find_ros)"
  python="$(find_python)"
  touch "$log"
  tail -n 2000 "$log" >"$log.old" && mv "$log.old" "$log"
  require_venv_module
  if must_build_messages; then require_compiler; fi
  case "$want" in
    --tests) require_packages "the tests need" "${test_packages[@]}" ;;
    --drive) require_packages "the simulator needs" "${simulator_packages[@]}" ;;
  esac
  make_environment
  for package in "${message_packages[@]}"; do
    if must_build "$package"; then build_messages "$package"; fi
  done
  build_package
  touch "$state/ready"
  if [ "$want" = --oldest ]; then make_oldest_environment; fi
}

main "$@"
