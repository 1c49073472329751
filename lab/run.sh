#!/usr/bin/env bash
# Machines that really boot, under BMCs that were not made here. `lab/run.sh --help` says more; docs/src/lab.md says what it proves.
#
# The shell in the middle is the first process in there, and buries what others leave behind.
# Everything runs in network, mount and process namespaces of its own: when this ends, however it ends, the kernel takes all of it away.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec python3 lab/lab.py --help ;; esac
if [ "$(id -u)" != 0 ]; then
    echo "lab: needs root, for namespaces, bridges and libvirt" >&2
    exit 1
fi
python3 lab/lab.py prepare "$@"
work=$(mktemp -d "$PWD/target/lab/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
status=0
timeout --foreground --kill-after=10 900 \
    unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private \
    bash -c 'python3 lab/lab.py run --work "$@" & wait $!' lab "$work" "$@" || status=$?
[ $status = 124 ] && echo "lab: not ready within 15 minutes" >&2
exit $status
