#!/usr/bin/env bash
# The tests start a private PostgreSQL of their own; this makes sure that its programs are there. Without them the
# tests run on SQLite alone and say so.
set -u
shopt -s nullglob
for bin in /usr/lib/postgresql/*/bin/initdb; do
  [ -x "$bin" ] && exit 0
done
command -v initdb >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing postgresql (for tests)…"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null && exit 0
fi
echo "PostgreSQL is not there and could not be installed (apt-get install postgresql): its tests will be left out."
exit 0
