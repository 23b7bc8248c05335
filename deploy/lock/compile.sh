#!/usr/bin/env bash
# Pins versions and hashes, without index addresses. Each set contains the one before it.
set -euo pipefail
cd "$(dirname "$0")/../.."
flags=(--quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate
       --no-emit-index-url --no-emit-find-links --no-emit-trusted-host)
pip-compile "${flags[@]}" --extra build -o deploy/lock/run.txt pyproject.toml
pip-compile "${flags[@]}" --extra build --extra test -c deploy/lock/run.txt -o deploy/lock/test.txt pyproject.toml
pip-compile "${flags[@]}" --extra build --extra test --extra bench -c deploy/lock/test.txt -o deploy/lock/bench.txt pyproject.toml
pip-compile "${flags[@]}" --extra build --extra test --extra fuzz -c deploy/lock/test.txt -o deploy/lock/fuzz.txt pyproject.toml
