#!/usr/bin/env bash
# Starts `steelyard up` on ports of its own and runs the browser tests against it. Usage: browser-tests.sh [playwright arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${STEELYARD_BINARY:-target/debug/steelyard}
export STEELYARD_BINARY=$(realpath "$binary")
port=${STEELYARD_TEST_PORT:-18080}
folder=$(mktemp -d)
# One kind of server, so that enough of them are free whatever a test draws.
export STEELYARD_YARD_MODELS=${STEELYARD_YARD_MODELS:-dell-r650}
"$binary" up --data-dir "$folder" --port "$port" --servers 16 --boot-seconds 0.2 >"$folder/up.log" 2>&1 &
up=$!
cleanup() {
  kill "$up" 2>/dev/null && wait "$up" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
for _ in $(seq 150); do
  grep -q 'Ctrl-C stops it' "$folder/up.log" && break
  if ! kill -0 "$up" 2>/dev/null; then
    cat "$folder/up.log"
    exit 1
  fi
  sleep 1
done
grep -q 'Ctrl-C stops it' "$folder/up.log" || { cat "$folder/up.log"; exit 1; }

yard="http://127.0.0.1:$((port + 5))"
export STEELYARD_URL="http://127.0.0.1:$port"
export STEELYARD_EMAIL=admin@steelyard.local
STEELYARD_PASSWORD=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).password' "$folder/login.json")
export STEELYARD_PASSWORD
export STEELYARD_FAULT_ON="curl -fsS -X POST -H 'content-type: application/json' -d '{\"preset\":\"switch_apply_fails\"}' $yard/faults"
export STEELYARD_FAULT_OFF="curl -fsS -X DELETE $yard/faults"
cd ui
npx playwright test "$@"
