# `just` shows what there is. Everything runs in .venv, which the README's test command makes.

set shell := ["bash", "-euo", "pipefail", "-c"]

bin := ".venv/bin"
compose := "docker compose --file compose.api.yaml"

[private]
default:
    @{{ just_executable() }} --list --unsorted

# Start the API server
api-up:
    {{ compose }} up --detach --build

# Stop the API server; a transfer under way is finished first
api-down:
    {{ compose }} down

# Follow the API server's log
api-logs:
    {{ compose }} logs --follow

# Build all Docker images: prod and slim
build: (image "prod") (image "slim")

# Build one Docker image: prod has a browser for signing in, slim has none
image target="prod":
    docker build --target {{ target }} --tag pysequence-api:{{ target }} .

# Run the server on the simulated Sequence, with pretend money
sandbox *options:
    {{ bin }}/pysequence-api serve --sandbox {{ options }}

# Run the tests, or those that you name
test *options:
    {{ bin }}/pytest {{ options }}

# Kill a transfer at each of its steps; takes minutes, needs strace
kill-steps *options:
    {{ bin }}/pytest -m crash {{ options }}

# Kill server and terminal at random moments, round after round
kill-rounds rounds="20" *options:
    SEQUENCE_KILL_ROUNDS={{ rounds }} {{ bin }}/pytest -m rounds -n 0 {{ options }}

# Say what is wrong with the code: style and types
lint:
    {{ bin }}/ruff check .
    {{ bin }}/ruff format --check .
    {{ bin }}/mypy
    {{ bin }}/lint-imports

# Bring the code into form
fmt:
    {{ bin }}/ruff format .
    {{ bin }}/ruff check --fix .

# Do all that has to pass before a change goes in
check:
    .ci/run

# Measure the gateway on this machine, without a network
bench *options:
    {{ bin }}/python -m bench {{ options }}

# Renew the pinned dependencies of the image; needs uv
lock:
    for extra in "" browser; do \
        uv pip compile {{ lock_options }} ${extra:+--extra $extra} pyproject.toml --output-file requirements/${extra:-runtime}.txt; \
    done
    echo hatchling | uv pip compile {{ lock_options }} - --output-file requirements/build.txt

lock_options := "--quiet --no-config --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate"
