#!/usr/bin/env python3
"""A site at scale, on the simulated datacenter: registration, rest, changes of power that BMCs tell of, a large deploy, and a crash in
the middle of it.

    python3 bench/scale.py --binary target/release/steelyard --servers 10000 --deploy 500 --rest 60 --changes 200 --crash

Starts the three parts as processes on loopback, stops them by itself, leaves nothing behind (unless --keep), and prints
one line a phase: seconds, and for each process resident memory (current and highest) and the CPU seconds it used.
"""
import argparse, json, os, random, shutil, signal, subprocess, sys, tempfile, time, urllib.error, urllib.request

TICK = os.sysconf("SC_CLK_TCK")


class Api:
    def __init__(self, base):
        self.base, self.key = base, None

    def call(self, method, path, body=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", **headers}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.base}/api/v2{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                text = answer.read()
        except urllib.error.HTTPError as e:
            raise SystemExit(f"{method} {path}: {e.code} {e.read().decode()[:2000]}")
        return json.loads(text) if text else None

    def login(self, folder):
        login = json.load(open(os.path.join(folder, "login.json")))
        self.key = self.call("POST", "/login", {"provider": "mysql", "properties": login})["sessionToken"]
        self.key = self.call("POST", "/user/api-keys", {"name": "scale"})["apiKey"]


def usage(pid):
    """Resident MiB, highest resident MiB, CPU seconds."""
    status = dict(l.split(":", 1) for l in open(f"/proc/{pid}/status").read().splitlines())
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    kib = lambda key: int(status[key].split()[0]) / 1024
    return kib("VmRSS"), kib("VmHWM"), (int(fields[11]) + int(fields[12])) / TICK


class Parts:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.running = binary, folder, {}

    def start(self, name):
        log = open(os.path.join(self.folder, "logs", f"{name}-scale.log"), "ab")
        config = os.path.join(self.folder, "steelyard.toml")
        self.running[name] = subprocess.Popen([self.binary, name, "--config", config], stdout=log, stderr=log)

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self):
        for name in list(self.running):
            self.stop(name)


def phase(title, seconds, pids, before=None):
    now = {name: usage(pid) for name, pid in pids.items()}
    parts = []
    for name, (rss, peak, cpu) in now.items():
        used = cpu - (before or {}).get(name, (0, 0, 0))[2]
        parts.append(f"{name} {rss:.0f} MiB (highest {peak:.0f}), {used:.1f} s CPU")
    load = os.getloadavg()[0]
    print(f"{title:<44} {seconds:8.1f} s   " + "; ".join(parts) + f"   (load {load:.1f})", flush=True)
    return now


def wait(what, limit, ready, step=0.5):
    end = time.monotonic() + limit
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {limit} s")
        time.sleep(step)


def yard(port, method, path):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", b"" if method == "POST" else None, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def subscribed(port):
    lines = yard(port, "GET", "/metrics").splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith("yard_servers_subscribed "))


def changes(api, port, count, limit):
    """Seconds from a change of power at a server until the interface tells of it, for `count` servers one after the other."""
    total = api.call("GET", "/servers?limit=1")["meta"]["totalItems"]
    times, lost = [], 0
    for n in random.sample(range(total), min(count, total)):
        server = api.call("GET", f"/servers?limit=1&page={n + 1}&sortBy=serverId:ASC")["data"][0]
        wanted = "off" if server["powerStatus"] == "on" else "on"
        began = time.monotonic()
        yard(port, "POST", f"/servers/{server['serialNumber']}/power-{wanted}")
        while api.call("GET", f"/servers/{server['serverId']}")["powerStatus"] != wanted:
            if time.monotonic() - began > limit:
                lost += 1
                break
            time.sleep(0.005)
        else:
            times.append(time.monotonic() - began)
        yard(port, "POST", f"/servers/{server['serialNumber']}/power-{'on' if wanted == 'off' else 'off'}")
    return sorted(times), lost


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--binary", default="target/release/steelyard")
    ask.add_argument("--servers", type=int, default=1000)
    ask.add_argument("--deploy", type=int, default=200, help="instances of one deploy")
    ask.add_argument("--port", type=int, default=19500)
    ask.add_argument("--rest", type=int, default=30, help="seconds of rest that are measured")
    ask.add_argument("--changes", type=int, default=200, help="changes of power that are timed")
    ask.add_argument("--crash", action="store_true", help="kill -9 the Site Controller when half is installed")
    ask.add_argument("--limit", type=int, default=1800, help="seconds for each phase")
    ask.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    o = ask.parse_args()
    folder = tempfile.mkdtemp(prefix="steelyard-scale-")
    parts, up = Parts(os.path.abspath(o.binary), folder), None
    try:
        began = time.monotonic()
        up = subprocess.Popen(
            [parts.binary, "up", "--data-dir", folder, "--servers", str(o.servers), "--port", str(o.port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in up.stdout:
            if "✓" in line or "rror" in line:
                print(f"    {line.strip()}", flush=True)
            if line.startswith("Login"):
                break
        else:
            raise SystemExit("`steelyard up` ended early")
        children = subprocess.run(["pgrep", "-P", str(up.pid), "-a"], capture_output=True, text=True).stdout
        pids = {l.split()[2]: int(l.split()[0]) for l in children.splitlines()}
        now = phase(f"{o.servers} servers registered", time.monotonic() - began, pids)
        telling = time.monotonic()
        wait("all BMCs tell of themselves", o.limit, lambda: subscribed(o.port + 5) >= o.servers)
        now = phase("all BMCs tell of themselves", time.monotonic() - telling, pids, now)
        time.sleep(10)  # what was still to be written is written
        now = phase("  (settling)", 10, pids, now)
        time.sleep(o.rest)
        phase("at rest", o.rest, pids, now)
        up.send_signal(signal.SIGTERM)
        up.wait(60)
        up = None

        began = time.monotonic()
        for name in ("global", "yard", "site"):
            parts.start(name)
        api = Api(f"http://127.0.0.1:{o.port}")

        def healthy():
            try:
                urllib.request.urlopen(f"{api.base}/api/v2/health", timeout=5)
                return True
            except OSError:
                return False

        wait("the Global Controller", 60, healthy, 0.1)
        api.login(folder)
        site = api.call("GET", "/sites")["data"][0]["id"]
        wait("the Site Controller", 60, lambda: any(s["id"] == site and s["connected"] for s in api.call("GET", "/overview")["sites"]), 0.2)
        pids = {name: p.pid for name, p in parts.running.items()}
        now = phase("all parts started again", time.monotonic() - began, pids)
        if o.changes:
            began = time.monotonic()
            times, lost = changes(api, o.port + 5, o.changes, 120)
            now = phase(f"{o.changes} changes of power, one by one", time.monotonic() - began, pids, now)
            at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1000
            print(f"    seen in the interface after: median {at(0.5):.0f} ms, 99 of 100 {at(0.99):.0f} ms, longest {at(1):.0f} ms; {lost} not within 120 s")

        label, left = f"scale-{int(time.time())}", o.deploy
        infrastructure = api.call("POST", "/infrastructures", {"label": label, "siteId": site})["id"]
        fabric = api.call("GET", "/network-fabrics")["data"][0]["id"]
        network = api.call("POST", "/logical-networks", {
            "label": f"{label}-net", "kind": "vlan", "fabricId": str(fabric), "infrastructureId": infrastructure,
            "ipv4": {"subnetAllocationStrategies": [{"kind": "auto", "scope": {"kind": "global"}, "prefixLength": 20, "subnetPoolIds": []}]},
            "vlan": {"vlanAllocationStrategies": [{"kind": "auto", "scope": {"kind": "fabric", "resourceId": int(fabric)}}]}})["id"]
        template = api.call("GET", "/os-templates")["data"][0]["id"]
        for kind in api.call("GET", "/server-types?limit=100")["data"]:
            free = int(api.call("GET", f"/sites/{site}/availability?serverTypeId={kind['id']}")["free"])
            count = min(free, left)
            if count < 1:
                continue
            left -= count
            group = api.call("POST", f"/infrastructures/{infrastructure}/server-instance-groups", {
                "label": f"type-{kind['id']}", "instanceCount": count, "defaultServerTypeId": kind["id"], "osTemplateId": template})["id"]
            api.call("POST", f"/server-instance-groups/{group}/config/networking/connections", {
                "logicalNetworkId": str(network), "tagged": False, "accessMode": "l2", "mtu": 1500, "providesDefaultRoute": True})
        if left:
            print(f"    only {o.deploy - left} servers are free")
        options = {"allowDataLoss": False, "shutdownOptions": {
            "attemptSoftShutdown": False, "softShutdownTimeout": 0, "attemptHardShutdown": True, "forceShutdown": False}}
        began = time.monotonic()
        plan = api.call("POST", f"/infrastructures/{infrastructure}/actions/plan", options)
        now = phase("the plan", time.monotonic() - began, pids, now)
        wrong = [p for p in plan.get("problems", []) if p.get("severity") == "error"]
        if wrong:
            raise SystemExit(f"the design cannot be deployed: {wrong[:3]}")
        began = time.monotonic()
        api.call("POST", f"/infrastructures/{infrastructure}/actions/deploy", options)
        now = phase("the deploy accepted", time.monotonic() - began, pids, now)
        group = api.call("GET", "/job-groups?limit=1&sortBy=id:DESC")["data"][0]["id"]
        crashed, slowest = not o.crash, 0.0

        def counts():
            nonlocal slowest
            asked = time.monotonic()
            found = api.call("GET", f"/jobs?filter.jobGroupId={group}&filter.functionName=server.install&filter.status=returned_success&limit=1")
            slowest = max(slowest, time.monotonic() - asked)
            return found["meta"]["totalItems"]

        end = time.monotonic() + o.limit
        while api.call("GET", f"/infrastructures/{infrastructure}")["config"]["deployStatus"] != "finished":
            if time.monotonic() > end:
                raise SystemExit(f"not deployed within {o.limit} s; folder {folder}")
            done = counts()
            if not crashed and done >= o.deploy // 2:
                now = phase(f"{done} installed: kill -9 of the site", time.monotonic() - began, pids, now)
                parts.stop("site", signal.SIGKILL)
                time.sleep(2)
                parts.start("site")
                pids["site"] = parts.running["site"].pid
                now.pop("site", None)
                crashed = True
            time.sleep(1)
        phase(f"{o.deploy - left} servers deployed", time.monotonic() - began, pids, now)
        active = api.call("GET", f"/infrastructures/{infrastructure}/server-instances?limit=1&filter.serviceStatus=active")["meta"]["totalItems"]
        total = api.call("GET", f"/jobs?filter.jobGroupId={group}&limit=1")["meta"]["totalItems"]
        print(f"    {active} instances active, {total} jobs, slowest list of jobs {slowest * 1000:.0f} ms")
        return 0 if active == o.deploy - left else 1
    finally:
        if up and up.poll() is None:
            up.send_signal(signal.SIGTERM)
            up.wait(60)
        parts.stop_all()
        if o.keep:
            print(f"    data and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
