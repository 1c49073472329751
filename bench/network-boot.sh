#!/usr/bin/env bash
# DHCP, TFTP and HTTP of a Site Controller side by side with Kea, dnsmasq and nginx: the same machine, the same clients, one after
# the other. As root; makes two network namespaces, stops by itself, leaves nothing behind.
#
#   bench/network-boot.sh [BINARY]        (default target/release/steelyard)
#
# SERVERS="steelyard kea" runs some of them only.
#
# perfdhcp (package kea-admin) counts whole exchanges (discover, offer, request, acknowledge) for SECONDS_EACH seconds at each rate offered.
set -euo pipefail
binary=$(realpath "${1:-target/release/steelyard}")
seconds=${SECONDS_EACH:-8}
rates=${RATES:-500 1000 2000 4000 8000}
port=${PORT:-19700}
wanted() { [[ " ${SERVERS:-steelyard kea dnsmasq nginx} " == *" $1 "* ]]; }
for program in perfdhcp kea-dhcp4 dnsmasq nginx wrk curl; do
	command -v "$program" >/dev/null || missing+=" $program"
done
[ -z "${missing:-}" ] || { echo "missing:$missing; apt-get install kea-dhcp4-server kea-admin dnsmasq-base nginx-light wrk curl" >&2; exit 1; }

work=$(mktemp -d /tmp/steelyard-netboot-XXXXXX)
server=sybench-s client=sybench-c pids=()
stop() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; pids=(); }
trap 'stop; ip netns del $server 2>/dev/null || true; ip netns del $client 2>/dev/null || true; rm -rf "$work"' EXIT

ip netns add $server && ip netns add $client
ip link add sys0 netns $server type veth peer name syc0 netns $client
ip -n $server addr add 10.64.0.1/16 dev sys0 && ip -n $client addr add 10.64.255.254/16 dev syc0
for ns in $server $client; do ip -n $ns link set lo up; done
ip -n $server link set sys0 up && ip -n $client link set syc0 up
in_client() { ip netns exec $client "$@"; }

# An enrolled site that knows a pool, 10.64.0.0/16; from then on it works from its own store, without a Global Controller.
"$binary" up --data-dir "$work/up" --servers 1 --port "$port" >"$work/up.log" 2>&1 & up=$!
for _ in $(seq 300); do grep -q '^Login' "$work/up.log" && break; sleep 0.2; done
grep -q '^Login' "$work/up.log" || { tail "$work/up.log"; exit 1; }
kill "$up"; wait "$up" 2>/dev/null || true
head -c 14200000 /dev/urandom >"$work/up/boot/agent/initrd"
head -c 1000000000 /dev/zero >"$work/up/boot/agent/vmlinuz"
printf 'small\n' >"$work/up/boot/undionly.kpxe"

# Processor time that a process has used, in clock ticks.
ticks() { awk '{sub(/.*\) /, ""); print $12 + $13}' "/proc/$1/stat"; }
hertz=$(getconf CLK_TCK)
load() { awk -v n="$(nproc)" '{print "load before: " $1 " on " n " cores"}' /proc/loadavg; }
memory() { awk '/VmHWM/ {printf "%d MiB", $2 / 1024}' "/proc/$1/status"; }

dhcp() { # name, pid
	load
	for rate in $rates; do
		before=$(ticks "$2")
		out=$(in_client perfdhcp -4 -r "$rate" -R 50000 -p "$seconds" -W 1000000 -l syc0 2>/dev/null || true)
		done_=$(awk '/^Rate:/ {print $2}' <<<"$out")
		drops=$(awk -F: '/drops ratio/ {gsub(/ /, "", $2); print $2; exit}' <<<"$out")
		ack=$(awk '/REQUEST-ACK/ {r=1} r && /drops ratio/ {print $3; exit}' <<<"$out")
		delay=$(awk '/REQUEST-ACK/ {r=1} r && /avg delay/ {print $3; exit}' <<<"$out")
		# Processor time for an exchange says what it costs whatever else the machine does.
		cost=$(awk -v t="$(($(ticks "$2") - before))" -v h="$hertz" -v n="$done_" -v s="$seconds" 'BEGIN {printf "%d", (n > 0) ? t / h * 1e6 / (n * s) : 0}')
		echo "dhcp  $1: offered $rate/s, whole exchanges $done_/s, lost discover ${drops:-?} request ${ack:-?} %, ack after ${delay:-?} ms, $cost us of processor time each"
	done
	echo "dhcp  $1: $(memory "$2")"
}

tftp_() { # name, path
	for size in 512 1428; do
		in_client curl -s -o /dev/null --tftp-blksize $size -w "tftp  $1: 14.2 MB with blocks of $size in %{time_total} s\n" "tftp://10.64.0.1/$2" || echo "tftp  $1: failed"
	done
}

http_() { # name, small, large
	load
	in_client wrk -t1 -c64 -d5 "http://10.64.0.1:$4/$2" | awk -v n="$1" '/Requests\/sec/ {print "http  " n ": " $2 " requests/s of a small file, 64 connections"}'
	for _ in 1 2 3; do
		in_client curl -s -o /dev/null -w "%{speed_download}\n" "http://10.64.0.1:$4/$3"
	done | sort -n | awk -v n="$1" '{v[NR]=$1} END {printf "http  %s: 1 GB at %d MB/s (median of 3)\n", n, v[2] / 1e6}'
	in_client wrk -t1 -c16 -d5 "http://10.64.0.1:$4/$3" --timeout 30 | awk -v n="$1" '/Transfer\/sec/ {print "http  " n ": 16 downloads at once, " $2 "/s together"}'
}

if wanted steelyard; then
	STEELYARD_SITE_DHCP=0.0.0.0:67 STEELYARD_SITE_TFTP=0.0.0.0:69 STEELYARD_SITE_HTTP=0.0.0.0:8090 STEELYARD_SITE_ADDRESS=10.64.0.1 \
		ip netns exec $server "$binary" site --config "$work/up/steelyard.toml" >"$work/site.log" 2>&1 & pids+=($!)
	sleep 2
	dhcp steelyard "${pids[0]}"
	tftp_ steelyard agent/initrd
	http_ steelyard boot/undionly.kpxe boot/agent/vmlinuz 8090
	echo "steelyard site: $(memory "${pids[0]}")"
	stop
fi

for persist in true false; do
	wanted kea || break
	cat >"$work/kea.json" <<-JSON
	{"Dhcp4": {"interfaces-config": {"interfaces": ["sys0"], "dhcp-socket-type": "raw"}, "valid-lifetime": 600,
	 "lease-database": {"type": "memfile", "persist": $persist, "name": "$work/leases.csv"}, "multi-threading": {"enable-multi-threading": true},
	 "subnet4": [{"id": 1, "subnet": "10.64.0.0/16", "pools": [{"pool": "10.64.0.10-10.64.250.255"}]}],
	 "loggers": [{"name": "kea-dhcp4", "severity": "ERROR"}]}}
	JSON
	KEA_LOCKFILE_DIR=$work KEA_PIDFILE_DIR=$work ip netns exec $server kea-dhcp4 -c "$work/kea.json" >"$work/kea.log" 2>&1 & pids+=($!)
	sleep 2
	dhcp "kea (leases on disk: $persist)" "${pids[0]}"
	stop
done

if wanted dnsmasq; then
	mkdir -p "$work/tftp" && cp "$work/up/boot/agent/initrd" "$work/tftp/initrd"
	ip netns exec $server dnsmasq -k -C /dev/null -i sys0 --port=0 --no-ping --dhcp-range=10.64.0.10,10.64.250.255,10m --dhcp-lease-max=60000 \
		--dhcp-leasefile="$work/dnsmasq.leases" --enable-tftp --tftp-root="$work/tftp" --user=root >"$work/dnsmasq.log" 2>&1 & pids+=($!)
	sleep 1
	dhcp dnsmasq "${pids[0]}"
	tftp_ dnsmasq initrd
	stop
fi

wanted nginx || exit 0
mkdir -p "$work/www" && cp "$work/up/boot/undionly.kpxe" "$work/www/small" && mv "$work/up/boot/agent/vmlinuz" "$work/www/large"
cat >"$work/nginx.conf" <<-CONF
	daemon off; worker_processes auto; pid $work/nginx.pid; error_log $work/nginx-error.log; user root;
	events { worker_connections 1024; }
	http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; server { listen 8091; root $work/www; } }
CONF
ip netns exec $server nginx -c "$work/nginx.conf" & pids+=($!)
sleep 1
http_ nginx small large 8091
stop
