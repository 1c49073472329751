#!/usr/bin/env bash
# The browser tests need Debian's Chromium; without it they are left out and the test run says so.
set -u
command -v "${CHROMIUM:-chromium}" >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing chromium (for the browser tests)…"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "Chromium is not there and could not be installed (apt-get install chromium): the browser tests are left out."
exit 1
