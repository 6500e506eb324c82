# `just` lists the recipes. They use .venv, which the README's test command creates.

set shell := ["bash", "-euo", "pipefail", "-c"]

bin := ".venv/bin"
compose := "docker compose --file compose.api.yaml"

[private]
default:
    @{{ just_executable() }} --list --unsorted

# Start the API server
api-up:
    {{ compose }} up --detach --build

# Stop the API server; a transfer in progress finishes first
api-down:
    {{ compose }} down

# Follow the log of the API server
api-logs:
    {{ compose }} logs --follow

# Build all Docker images: prod and slim
build: (image "prod") (image "slim")

# Build one Docker image: prod (with a browser for signing in) or slim (without)
image target="prod":
    docker build --target {{ target }} --tag pysequence-api:{{ target }} .

# Run the API server on the simulated Sequence, with no real money
sandbox *options:
    {{ bin }}/pysequence-api serve --sandbox {{ options }}

# Run the tests, or only the ones you name
test *options:
    {{ bin }}/pytest {{ options }}

# Kill a transfer at each of its steps; takes minutes and needs strace
kill-steps *options:
    {{ bin }}/pytest -m crash {{ options }}

# Kill the server and the command line at random moments, in rounds
kill-rounds rounds="20" *options:
    SEQUENCE_KILL_ROUNDS={{ rounds }} {{ bin }}/pytest -m rounds -n 0 {{ options }}

# Check style, types and imports
lint:
    {{ bin }}/ruff check .
    {{ bin }}/ruff format --check .
    {{ bin }}/mypy
    {{ bin }}/lint-imports

# Format the code
fmt:
    {{ bin }}/ruff format .
    {{ bin }}/ruff check --fix .

# Run everything that must pass before a change is merged
check:
    .ci/run

# Measure the gateway on this machine, without a network
bench *options:
    {{ bin }}/python -m bench {{ options }}

# Rewrite the examples of the OpenAPI document from the answers of the sandbox
examples:
    REWRITE_SNAPSHOTS=1 {{ bin }}/pytest -n 0 tests/api/test_examples.py

# Check the OpenAPI document with Spectral, two client generators and Schemathesis; needs Node.js and the network
openapi-check seconds="180" port="18720":
    #!/usr/bin/env bash
    set -euo pipefail
    test -x .venv-openapi/bin/openapi-python-client || {
        python3 -m venv .venv-openapi
        .venv-openapi/bin/pip install --quiet 'openapi-python-client==0.29.*' ruff
    }
    work=$(mktemp -d) server=
    trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
    {{ bin }}/pysequence-api openapi >"$work/openapi.json"
    echo '{"extends": "spectral:oas"}' >"$work/ruleset.json"
    npx --yes @stoplight/spectral-cli@6 lint --fail-severity hint --ruleset "$work/ruleset.json" "$work/openapi.json"
    npx --yes openapi-typescript@7 "$work/openapi.json" --output "$work/types.ts"
    PATH="$PWD/.venv-openapi/bin:$PATH" openapi-python-client generate --fail-on-warning --meta none \
        --path "$work/openapi.json" --output-path "$work/client"
    SEQUENCE_DATA_DIR="$work" SEQUENCE_API_KEY=sandbox SEQUENCE_MAX_TRANSFER_ATTEMPTS_PER_MINUTE=10000 \
        {{ bin }}/pysequence-api serve --sandbox --host 127.0.0.1 --port {{ port }} >"$work/log" 2>&1 &
    server=$!
    # After a freeze, no transfer is possible. A limit may reject a request that matches the document. An answer may wait
    # for 30 seconds.
    cd "$work" && "$OLDPWD/{{ bin }}/schemathesis" run http://127.0.0.1:{{ port }}/openapi.json \
        --wait-for-schema 30 --request-timeout 40 --header 'X-API-Key: sandbox' --max-time {{ seconds }} \
        --exclude-path /api/freeze --exclude-checks positive_data_acceptance

# Take the pictures of the owner's page for the README; needs a Chromium
pictures:
    {{ bin }}/python docs/images/draw.py

# Look up known vulnerabilities of the pinned dependencies; needs the network
audit:
    test -x .venv-audit/bin/pip-audit || { python3 -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit; }
    for lock in runtime browser build; do \
        .venv-audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements/$lock.txt; \
    done

# Update the pinned dependencies of the image; needs uv
lock:
    for extra in "" browser; do \
        uv pip compile {{ lock_options }} --extra mcp --extra notify ${extra:+--extra $extra} pyproject.toml \
            --output-file requirements/${extra:-runtime}.txt; \
    done
    echo hatchling | uv pip compile {{ lock_options }} - --output-file requirements/build.txt

lock_options := "--quiet --no-config --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate"
