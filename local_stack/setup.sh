#!/bin/sh
# Installs all that the project needs below this folder: a Python environment for Airflow and the tools (.venv), one for
# the MLflow server (.venv-mlflow), both exactly as locked. Run by `make setup`; does nothing where nothing has changed.
set -eu
cd "$(dirname "$0")/.."
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

supported() { "$1" -E -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

newline='
'
for character in : % '"' '$' '`' "$newline"; do
  case $(pwd -P) in
    *"$character"*) die "the path of this folder, $(pwd -P), may not hold the character '$character', with which PATH, PostgreSQL or MLflow cannot work: move the folder, or clone to another place" ;;
  esac
done

stamp=.venv/.installed
wanted=$(cat pyproject.toml uv.lock docker/model-wheels.txt local_stack/mlflow_server/uv.lock local_stack/bootstrap-requirements.txt | cksum)
if [ "$(cat $stamp 2>/dev/null)" = "$wanted" ] && supported .venv/bin/python && supported .venv-mlflow/bin/python; then exit 0; fi

if [ "${1-}" != with ]; then
  [ -z "${PYTHON-}" ] || printf 'warning: the environment variable PYTHON is ignored: it is now LOCAL_STACK_PYTHON\n' >&2
  named=${LOCAL_STACK_PYTHON-}
  if [ -n "$named" ]; then set -- "$named"; else set -- python3 python3.12 python3.13 python3.11 python; fi
  python=
  for candidate; do
    if supported "$candidate"; then python=$candidate; break; fi
  done
  [ -n "$python" ] || die "no Python 3.11, 3.12 or 3.13 found${named:+ as $named}: install one (Debian, Ubuntu: apt install python3.12 python3.12-venv; macOS: brew install python@3.12), or name it: make setup PYTHON=/path/to/python3.12"
  # from here on with what local_stack/shell.py lets through: UV_PROJECT_ENVIRONMENT, PIP_TARGET and the like would install elsewhere
  exec "$python" -E local_stack/shell.py sh local_stack/setup.sh with "$python"
fi
python=$2
umask 022 # as root PostgreSQL runs as another user, who must be able to read what is installed
"$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python has no venv module: install it (Debian, Ubuntu: apt install python3-venv), or name another Python: make setup PYTHON=/path/to/python3.12"

touch .setup-probe 2>/dev/null && rm .setup-probe || die "cannot write to $(pwd): make the folder writable for you, or clone to another one"
free=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$free" -gt 4000000 ] || die "only $((free / 1024)) MB free in $(pwd), the first install needs 4000: free some space, or clone to another disk"

# an environment of another Python version, or one whose Python is gone, is made anew
if [ -e .venv ] && ! supported .venv/bin/python; then rm -rf .venv .venv-mlflow; fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
step() { # WHAT COMMAND...: shows a command's output only where it fails
  what=$1; shift
  printf '%s\n' "$what" >&2
  "$@" >"$log" 2>&1 && return
  tail -n 15 "$log" >&2
  if grep -qiE 'resolve|connect|network|timed out|unreachable|dns|offline|max retries|no matching distribution' "$log"; then
    die "a download failed (its last words are above): the first install needs a network that reaches the Python package index; a proxy is set by HTTPS_PROXY, an index of your own by UV_DEFAULT_INDEX and PIP_INDEX_URL"
  elif grep -qiE 'no space left|disk quota' "$log"; then
    die "the disk is full: free some space, then run this again"
  fi
  die "installation failed, its last words are above"
}
if [ ! -x .venv/bin/uv ]; then
  step "Creating .venv with $("$python" --version)" "$python" -m venv .venv
  step "Installing uv" .venv/bin/python -m pip install --quiet --require-hashes -r local_stack/bootstrap-requirements.txt
fi
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
# the certificates of this machine, as git and pip use them, where it has a store: a company's proxy may need its own
for store in /etc/ssl/certs /etc/pki/tls/certs /System/Library/Keychains; do
  if [ -d $store ]; then export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"; fi
done
step "Installing Airflow and the tools into .venv (about 1.5 GB)" .venv/bin/uv sync --frozen --python "$(pwd)/.venv/bin/python"
step "Installing the MLflow server into .venv-mlflow (about 0.7 GB)" env UV_PROJECT_ENVIRONMENT="$(pwd)/.venv-mlflow" \
  .venv/bin/uv sync --frozen --project local_stack/mlflow_server --python "$(.venv/bin/python -c 'import sys; print(sys._base_executable)')"
# what the index says of the models' packages, into uv's cache: run_prediction installs them without a network
step "Looking up the packages of the models' environments" .venv/bin/uv pip compile --python .venv/bin/python \
  --constraints requirements.txt --output-file "$log.txt" docker/model-wheels.txt
rm -f "$log.txt"
# what has just been installed is found there; Airflow and MLflow are only looked for, as importing them takes long
step "Checking .venv" .venv/bin/python -c 'import importlib.util, local_stack.services; assert importlib.util.find_spec("airflow")'
step "Checking .venv-mlflow" .venv-mlflow/bin/python -c 'import importlib.util; assert importlib.util.find_spec("mlflow")'
printf '%s' "$wanted" > $stamp
