#!/usr/bin/env bash
# Check and measure acon_mm on an NVIDIA GPU and write a report of one page, in under 8 minutes.
# It needs torch and triton; the last part needs OpenMMLab's libraries and is left out without.
#
# Usage: [PYTHON=python3] tools/benchmarks/gpu_acceptance.sh [--out report.md]
#        --device cpu runs every part at tiny sizes by Triton's interpreter: a dry run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec "${PYTHON:-python3}" "$root/tools/benchmarks/gpu_acceptance.py" "$@"
