#!/usr/bin/env bash
# The simulated BMCs under the DMTF's own validators (PyPI: redfish-protocol-validator, redfish-service-validator).
#
#   scripts/redfish-conformance.sh [BINARY]        (default target/debug/steelyard)
#
# The service validator compares with DMTF's schema files, which it fetches; where it cannot, it only warns. A folder of them (CSDL,
# DMTF bundle DSP8010) may be given in REDFISH_SCHEMAS. Starts a simulated datacenter on loopback, stops it, leaves its reports in
# target/redfish.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-target/debug/steelyard}")
folder=target/redfish port=${PORT:-19890}
mkdir -p "$folder" && rm -rf "$folder"/protocol "$folder"/service
if [ ! -x "$folder/venv/bin/rf_protocol_validator" ]; then
	python3 -m venv "$folder/venv"
	"$folder/venv/bin/pip" -q install redfish-protocol-validator==1.3.2 redfish-service-validator==3.1.8
fi
cat >"$folder/yard.toml" <<TOML
[yard]
servers = 4
admin_listen = "127.0.0.1:$port"
bmc_port = $((port + 1))
nvue_port = $((port + 2))
dhcp_server = "127.0.0.1:$((port + 3))"
tftp_port = $((port + 4))
bmc_base = "127.52.0.1"
switch_base = "127.51.0.1"
relay_base = "127.50.0.1"
TOML
"$binary" yard --config "$folder/yard.toml" >"$folder/yard.log" 2>&1 & yard=$!
trap 'kill $yard 2>/dev/null; wait $yard 2>/dev/null || true' EXIT
for _ in $(seq 100); do curl -so /dev/null "http://127.0.0.1:$port/inventory" && break; sleep 0.1; done

curl -s "http://127.0.0.1:$port/inventory" | python3 -c '
import json, sys
for s in json.load(sys.stdin)["servers"]:
    b = s["bmc"]; print(s["vendor"].split()[0], b["address"], b["port"], b["username"], b["password"])' |
	while read -r vendor address bmc_port user password; do
		url=https://$address:$bmc_port
		openssl s_client -connect "$address:$bmc_port" </dev/null 2>/dev/null | openssl x509 >"$folder/$vendor.pem"
		# It ends with an error when anything failed: its summary says how much.
		REQUESTS_CA_BUNDLE="$folder/$vendor.pem" timeout 300 "$folder/venv/bin/rf_protocol_validator" -u "$user" -p "$password" -r "$url" \
			--ca-bundle "$folder/$vendor.pem" --report-dir "$folder/protocol/$vendor" --report-type tsv >"$folder/$vendor.log" 2>&1 || true
		grep Summary "$folder/$vendor.log" | sed "s/^/$vendor protocol: /" || echo "$vendor protocol: the validator did not come to its end"
		grep -hP '\tFAIL\t' "$folder/protocol/$vendor"/*.tsv 2>/dev/null | cut -f1-6 | sed 's/^/    /' || true
		timeout 300 "$folder/venv/bin/rf_service_validator" -i "$url" -u "$user" -p "$password" --authtype Basic --logdir "$folder/service/$vendor" \
			${REDFISH_SCHEMAS:+--schema_directory "$REDFISH_SCHEMAS"} 2>&1 | grep -A2 'PASS' | tail -1 | sed "s/^/$vendor service (pass, warn, fail, not tested): /"
	done
