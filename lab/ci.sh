#!/usr/bin/env bash
# The lab as a part of CI: preparation 8 minutes at most, the story 15 at most (lab/run.sh). It fails the build when the story fails; where a
# machine cannot run or prepare it, one line says why.
set -euo pipefail
cd "$(dirname "$0")/.."

left_out() {
    mkdir -p target
    echo "NOT TESTED: machines that really boot, in the lab ($1)" | tee -a target/not-tested
    exit 0
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || left_out "needs Linux on x86-64"
[ "$(id -u)" = 0 ] || left_out "needs root"
command -v python3 >/dev/null || left_out "no python3"
[ -r /etc/debian_version ] || left_out "needs Debian: packages are installed by name"
unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private bash -c \
    'mount -t sysfs sysfs /sys && ip link add br0 type bridge && ip link add probe0 type veth peer name probe1' 2>/dev/null ||
    left_out "no network, mount and process namespaces with bridges here"
awk '/^MemAvailable/ { exit $2 < 4 * 1024 * 1024 }' /proc/meminfo || left_out "needs 4 GiB of free memory"
[ "$(df -Pk . | awk 'NR == 2 { print $4 }')" -gt $((5 * 1024 * 1024)) ] || left_out "needs 5 GiB of free disk"

# As the browser tests do, so that nothing is built twice.
cargo build --quiet --workspace
status=0
timeout --kill-after=10 480 python3 lab/lab.py prepare || status=$?
case $status in
0) ;;
75) left_out "its packages cannot be installed here" ;;
124 | 137) left_out "not prepared within 8 minutes" ;;
*) left_out "its preparation failed with status $status, see above" ;;
esac
begun=$SECONDS
bash lab/run.sh --machines 3 "$@" && exit 0
# Emulated machines share two processors with all else: a story that failed early is told once more.
((SECONDS - begun < 420)) || exit 1
echo "lab: failed after $((SECONDS - begun)) s; once more"
exec bash lab/run.sh --machines 3 "$@"
