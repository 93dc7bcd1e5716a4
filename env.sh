# Activates this checkout's python, ROS executables and `nav_monitor` in a shell. To be sourced from
# bash or zsh, from any directory: `. path/to/env.sh`. Run `make setup` first.
#
# The Fast DDS profile remains the user's choice: this file sets neither
# FASTDDS_DEFAULT_PROFILES_FILE nor FASTRTPS_DEFAULT_PROFILES_FILE.

# Prepends a folder to a path-like variable, unless it is already in it.
_nav_monitor_prepend() {
  eval "_nav_monitor_old=\${$1:-}"
  case ":$_nav_monitor_old:" in
    *":$2:"*) ;;
    *) export "$1=$2${_nav_monitor_old:+:$_nav_monitor_old}" ;;
  esac
  unset _nav_monitor_old
}

_nav_monitor_environment() {
  if [ ! -e "$1/.venv/.nav_monitor/ready" ]; then
    echo "env.sh: this checkout is not set up yet: run 'make -C $1 setup'" >&2
    return 1
  fi
  # A distribution's ROS 2, if the set-up found one; otherwise the prefix is .venv with the wheels.
  _nav_monitor_ros="$(cat "$1/.venv/.nav_monitor/ros_setup" 2>/dev/null)"
  _nav_monitor_shell=bash
  [ -z "${ZSH_VERSION:-}" ] || _nav_monitor_shell=zsh
  if [ -n "$_nav_monitor_ros" ]; then
    case ":${AMENT_PREFIX_PATH:-}:" in
      *":${_nav_monitor_ros%/*}:"*) ;;
      *) . "${_nav_monitor_ros%.*}.$_nav_monitor_shell" ;;
    esac
  fi
  # Without a distribution there is no `ros2 run`, so that the nodes are available as commands.
  _nav_monitor_prepend PATH "$1/.ros/install/nav_monitor_ros/lib/nav_monitor_ros"
  . "$1/.venv/bin/activate"
  _nav_monitor_prepend AMENT_PREFIX_PATH "$1/.venv"
  _nav_monitor_prepend CMAKE_PREFIX_PATH "$1/.venv"
  if [ -e "$1/.ros/install/local_setup.$_nav_monitor_shell" ]; then
    . "$1/.ros/install/local_setup.$_nav_monitor_shell"
  fi
  unset _nav_monitor_ros _nav_monitor_shell
}

if [ -n "${ZSH_VERSION:-}" ]; then
  eval '_nav_monitor_file="${(%):-%x}"'
else
  _nav_monitor_file="${BASH_SOURCE[0]:-env.sh}"
fi
# ROS's setup scripts read variables that may be unset, which `set -u` forbids.
_nav_monitor_option=+u
case $- in *u*) _nav_monitor_option=-u ;; esac
set +u
_nav_monitor_root="$(CDPATH='' cd -- "$(dirname -- "$_nav_monitor_file")" && pwd)"
_nav_monitor_status=0
_nav_monitor_environment "$_nav_monitor_root" || _nav_monitor_status=1
unset -f _nav_monitor_environment _nav_monitor_prepend
set "$_nav_monitor_option"
unset _nav_monitor_file _nav_monitor_root _nav_monitor_option
# The last command determines the exit status of the `.` command that sourced this file.
[ "$_nav_monitor_status" -eq 0 ]
