#!/bin/bash
# Once, when the dev container is made: the Astro CLI, in the version that this project was written for.
set -euo pipefail
curl -fsSL https://install.astronomer.io | sudo bash -s -- v1.45.0
