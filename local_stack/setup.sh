#!/bin/sh
# Installs all that the project needs below this folder: a Python environment for Airflow and the tools (.venv), one for
# the MLflow server (.venv-mlflow), both exactly as locked. Run by `make setup`; does nothing where nothing has changed.
set -eu
cd "$(dirname "$0")/.."
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }
python=
for candidate in ${PYTHON:-python3 python3.12 python3.11 python}; do
  if supported "$candidate"; then python=$candidate; break; fi
done
[ -n "$python" ] || die "no Python 3.11 or 3.12 found${PYTHON:+ as $PYTHON}: install one (Debian, Ubuntu: apt install python3.12 python3.12-venv; macOS: brew install python@3.12), or name it: make setup PYTHON=/path/to/python3.12"
"$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python has no venv module: install it (Debian, Ubuntu: apt install python3-venv), or name another Python: make setup PYTHON=/path/to/python3.12"

stamp=.venv/.installed
wanted=$(cat pyproject.toml uv.lock docker/model-wheels.txt local_stack/mlflow_server/uv.lock local_stack/bootstrap-requirements.txt | cksum)
[ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || [ ! -x .venv-mlflow/bin/mlflow ] || exit 0

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
unset VIRTUAL_ENV CONDA_PREFIX || true
step "Installing Airflow and the tools into .venv (about 1.5 GB)" .venv/bin/uv sync --frozen --python "$(pwd)/.venv/bin/python"
step "Installing the MLflow server into .venv-mlflow (about 0.7 GB)" env UV_PROJECT_ENVIRONMENT="$(pwd)/.venv-mlflow" \
  .venv/bin/uv sync --frozen --project local_stack/mlflow_server --python "$(.venv/bin/python -c 'import sys; print(sys._base_executable)')"
# what the index says of the models' packages, into uv's cache: run_prediction installs them without a network
step "Looking up the packages of the models' environments" .venv/bin/uv pip compile --python .venv/bin/python \
  --constraints requirements.txt --output-file "$log.txt" docker/model-wheels.txt
rm -f "$log.txt"
printf '%s' "$wanted" > $stamp
