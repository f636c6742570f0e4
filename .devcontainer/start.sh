#!/bin/bash
# At each start of the dev container: settings where there are none yet, then the stack. The first start pulls and builds.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -e .env ] || cp .env_example .env
astro dev start --no-browser --wait 10m
