#!/bin/sh
# Fills /opt/venv from a role's lock:
#
#     install.sh train.txt [cpu|gpu [none|cpu|cu128|…|index]]      beside the locks: which XGBoost, which PyTorch
#
# For a build stage whose venv is copied to the image, so that no installer, compiler or cache gets there. The optional secret
# `ca` is a PEM bundle for a package index behind a CA of one's own.
set -eu
lock=$1
xgboost=${2:-cpu}
torch=${3:-none}
export VIRTUAL_ENV=/opt/venv UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv

if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca; fi
export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}}"
if [ -z "$UV_DEFAULT_INDEX" ]; then unset UV_DEFAULT_INDEX; fi # an empty address would be used as one

if ! python3 -c 'import ensurepip' 2>/dev/null; then # a CUDA base brings no Python
    apt-get update
    apt-get install -y --no-install-recommends python3 python3-venv
fi
# A virtual environment, because Debian's own Python looks for packages elsewhere than python.org's does.
python3 -m venv --without-pip "$VIRTUAL_ENV"
python3 -m venv installer
installer/bin/pip install --quiet --no-cache-dir --require-hashes -r boot.txt
installer/bin/uv pip sync --require-hashes --compile-bytecode "$lock"
if [ "$xgboost" = gpu ]; then
    installer/bin/uv pip uninstall xgboost-cpu
    installer/bin/uv pip install --require-hashes --no-deps --compile-bytecode -r gpu.txt
fi
if [ "$torch" != none ]; then
    installer/bin/uv pip install --require-hashes --compile-bytecode -r torch.txt
    # The builds have an index of their own, which uv knows by the build's name; `index` takes what the package index has.
    if [ "$torch" = index ]; then set --; else set -- --torch-backend "$torch"; fi
    installer/bin/uv pip install --compile-bytecode "$@" "torch==$(cat torch.version)"
fi
