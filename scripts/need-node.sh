#!/usr/bin/env bash
# The web applications are built with Node 20 or newer.
set -u
node_ok() { command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null; }
node_ok && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing nodejs and npm…"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
  node_ok && exit 0
fi
echo "Node 20 or newer with npm is needed to build the web applications, and could not be installed (apt-get install nodejs npm)."
exit 1
