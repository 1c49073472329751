"""The story that the lab tells, and the checks of it."""
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

import prepare
from machines import DISK_GIB, GATEWAY, LOGIN, Datacenter, run, until
from prepare import ROOT, say
from storage import StorageNode

API = "http://127.0.0.1:8080/api/v2"
PASSWORD = "correct horse battery staple"


class Api:
    """The public interface, and nothing else of the program."""

    def __init__(self):
        self.token = None

    def call(self, method, path, body=None, headers=None):
        request = urllib.request.Request(API + path, method=method, headers={"content-type": "application/json", **(headers or {})})
        if self.token:
            request.add_header("authorization", f"Bearer {self.token}")
        data = json.dumps(body).encode() if body is not None else None
        try:
            with urllib.request.urlopen(request, data, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:2000]}") from None
        return json.loads(text) if text else None

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body=None, headers=None):
        return self.call("POST", path, body if body is not None else {}, headers)

    def login(self):
        body = {"provider": "mysql", "properties": {"email": "lab@example.com", "password": PASSWORD}}
        self.token = self.post("/login", body)["sessionToken"]


class Phases:
    """What took how long."""

    def __init__(self, begun):
        self.begun, self.rows, self.last = begun, [], time.monotonic()

    def done(self, what, note=""):
        now = time.monotonic()
        self.rows.append((what, now - self.last, note))
        say(f"{now - self.begun:6.1f} s  {what}{f' ({note})' if note else ''}")
        self.last = now

    def table(self, accel, good):
        width = max(len(w) for w, _, _ in self.rows) if self.rows else 10
        print(f"\n{'phase'.ljust(width)}   seconds")
        for what, seconds, note in self.rows:
            print(f"{what.ljust(width)}  {seconds:8.1f}  {note}")
        print(f"{'total'.ljust(width)}  {time.monotonic() - self.begun:8.1f}  acceleration: {accel}; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        print("everything held" if good else "FAILED", flush=True)


class Story:
    def __init__(self, options, begun, work):
        self.options, self.work = options, work
        self.api, self.phases = Api(), Phases(begun)
        self.dc = Datacenter(options, work)
        self.node = StorageNode(self.dc) if options.storage else None
        self.boot_drive = bool(self.node) and options.boot_drive and options.machines > 1
        self.accel = "none"
        self.key = os.path.join(work, "key")

    # Preparation

    def begin(self):
        dc = self.dc
        dc.network()
        self.accel = dc.acceleration()
        self.phases.done("acceleration chosen", self.accel)
        dc.libvirt(self.accel)
        dc.bmcs()
        if self.node:
            self.node.start()
        self.image = dc.web()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self.key)
        self.phases.done("libvirt, BMCs, storage node up", f"{len(dc.machines)} machines")

    def controllers(self):
        dc, api = self.dc, self.api
        binary = os.path.join(self.work, "steelyard")
        shutil.copy(os.path.join(ROOT, self.options.binary), binary)
        config = os.path.join(self.work, "steelyard.toml")
        # Quoted as JSON, which TOML takes.
        text = {
            "global": {"listen": "127.0.0.1:8080", "link_listen": "127.0.0.1:8443", "data_dir": f"{self.work}/global", "admin_email": "lab@example.com", "admin_password": PASSWORD},
            "site": {"global": "https://127.0.0.1:8443", "data_dir": f"{self.work}/site", "address": GATEWAY, "dhcp": "0.0.0.0:67", "tftp": f"{GATEWAY}:69", "http": f"{GATEWAY}:80",
                     "boot_dir": prepare.BOOT, "kernel_arguments": "console=ttyS0 quiet", "dhcp_interface": "br0"},
        }
        with open(config, "w") as f:
            for table, rows in text.items():
                f.write(f"[{table}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in rows.items()))
        log = {"RUST_LOG": "info,netboot=debug"}
        dc.start("global", binary, "global", "--config", config, env=log)
        until("the Global Controller", 60, self.alive)
        self.site = api.post("/sites", {"slug": "lab", "name": "Lab"})["id"]
        token = api.post(f"/sites/{self.site}/enrolment-tokens")["token"]
        # Without the right to raw sockets there are no router advertisements, and the rest goes on.
        less = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw"] if self.options.no_ra else []
        dc.start("site", *less, binary, "site", "--config", config, env={**log, "STEELYARD_SITE_TOKEN": token})
        until("the Site Controller", 60, self.connected)
        self.phases.done("Global and Site Controller up")

    def alive(self):
        try:
            self.api.login()
            return True
        except (OSError, RuntimeError):
            return False

    def connected(self):
        return any(s["id"] == self.site and s["connected"] for s in self.api.get("/overview")["sites"])

    def settings(self):
        """What an administrator sets up once: a fabric whose network is done outside, a flat subnet, an operating system, a key."""
        api = self.api
        configuration = {"fabricType": "ethernet", "serverOnlyOperationEnabled": True, "vlanRanges": ["100-199"]}
        self.fabric = api.post("/network-fabrics", {"siteId": self.site, "name": "flat", "fabricConfiguration": configuration})["id"]
        self.subnet = api.post("/subnets", {
            "label": "flat", "networkAddress": "10.77.0.0", "prefixLength": 24, "isPool": False, "defaultGatewayAddress": GATEWAY,
            "tags": {"dhcp-site": str(self.site)}, "annotations": {"dhcp-first": "10.77.0.128", "dhcp-last": "10.77.0.199"},
        })["id"]
        self.template = api.post("/os-templates", {
            "name": "Debian 12", "label": "debian-12", "device": {"type": "server", "bootMode": "hybrid", "architecture": "x86_64"},
            "install": {"method": "copy", "driveType": "local_drive", "readyMethod": "wait_for_power_off"}, "imageBuild": {"required": False}, "visibility": "public",
            "os": {"name": "Debian", "version": "12", "credential": {"username": "lab", "passwordType": "generated"}},
        })["id"]
        sha256, size = prepare.digest()
        api.post("/template-assets", {"templateId": self.template, "usage": "source_image", "file": {
            "name": "debian.qcow2", "mimeType": "application/octet-stream", "templatingEngine": False, "path": "/debian.qcow2", "url": self.image, "checksum": sha256, "size": size}})
        user = api.get("/user")["id"]
        with open(self.key + ".pub") as f:
            api.post(f"/users/{user}/ssh-keys", {"sshKey": f.read().strip()})
        self.phases.done("fabric, subnet, OS template, SSH key", "the network is unmanaged; the image is an address")

    # The life of servers

    def default_login(self, machine):
        api = self.api
        api.post("/servers/default-credentials", {
            "siteId": self.site, "serverSerialNumber": "", "serverMacAddress": machine.bmc_mac, "defaultUsername": LOGIN[0], "defaultPassword": LOGIN[1]})

    def register(self):
        """Some are told by their address; some come by themselves: their BMC asks for an address, and its login is known, or waited for."""
        api, machines = self.api, self.dc.machines
        self.servers, seen = {}, {}
        for m in machines:
            if m.way == "by itself":
                self.default_login(m)
        for m in machines:
            if m.host:
                self.dc.plug_in(m)
            else:
                made = api.post("/servers", {"siteId": self.site, "managementAddress": m.bmc, "username": LOGIN[0], "password": LOGIN[1]})
                self.servers[m.name] = int(made["serverId"])
        waiting = {m.bmc: m for m in machines if m.way == "waits"}

        def ready():
            for row in api.get("/servers?limit=100")["data"]:
                status, name, why = row["serverStatus"], row["managementAddress"], row.get("serverStatusReason") or ""
                if seen.get(name) != (status, why):
                    seen[name] = (status, why)
                    say(f"{time.monotonic() - self.phases.begun:6.1f} s    server {name}: {status} {why[:70]}")
                    machine = next(m for m in machines if m.bmc == name)
                    assert self.servers.setdefault(machine.name, int(row["serverId"])) == int(row["serverId"]), row
                if status == "registration_incomplete":
                    raise RuntimeError(f"{name}: {why}")
                if name in waiting and why.startswith("waiting for credentials"):
                    self.default_login(waiting.pop(name))
                assert name not in waiting or status != "available", f"{name} is there without a login"
            return len(seen) == len(machines) and not waiting and all(s == "available" for s, _ in seen.values())

        until("registration", 400, ready, 1)
        for m in machines:
            row = api.get(f"/servers/{self.servers[m.name]}")
            macs = [i["macAddress"] for i in row["serverInterfaces"]] if "serverInterfaces" in row else []
            if macs:
                assert m.mac in macs, (m.mac, macs)
            assert row["diskCount"] == 1 or row.get("serverDiskCount") == 1, row
        ways = ", ".join(f"{m.name} {'waited for its login' if m.way == 'waits' else m.way}" for m in machines)
        self.phases.done("registered, discovered, available", ways)

    def storage(self):
        """The storage node is registered, and read by the site."""
        api = self.api
        self.pool = int(api.post("/storages", self.node.registration(self.site))["id"])

        def active():
            row = api.get(f"/storages/{self.pool}")
            if row["status"] not in ("pending", "active"):
                raise RuntimeError(json.dumps(row, indent=1))
            return row["status"] == "active"

        try:
            until("the storage node", 120, active, 0.5)
        except RuntimeError as error:
            jobs = [(j["functionName"], j["status"], j.get("response")) for j in api.get("/jobs?limit=100")["data"]]
            raise RuntimeError(f"{error}: {api.get(f'/storages/{self.pool}')}, {jobs}") from None
        self.phases.done("storage node registered", "volumes and file shares" if self.node.shares else "volumes")

    def over_ipmi(self, machine):
        """From here on the server is driven by another protocol."""
        self.dc.ipmi(machine)
        server = self.servers[machine.name]
        address = f"ipmi://{machine.bmc}"
        self.api.call("PATCH", f"/servers/{server}", {"managementAddress": address})
        assert self.api.get(f"/servers/{server}")["managementAddress"] == address
        machine.kind += " over IPMI"
        self.phases.done(f"{machine.name} is driven over IPMI")

    def design(self, count):
        api = self.api
        self.infrastructure = api.post("/infrastructures", {"label": "shop", "siteId": self.site})["id"]
        strategy = {"kind": "manual", "scope": {"kind": "global"}, "subnetId": self.subnet}
        network = api.post("/logical-networks", {
            "label": "lan", "kind": "vlan", "fabricId": int(self.fabric), "infrastructureId": self.infrastructure, "ipv4": {"subnetAllocationStrategies": [strategy]},
        })["id"]
        kind = api.get(f"/servers/{self.servers['lab1']}")["serverTypeId"]
        self.group = api.post(f"/infrastructures/{self.infrastructure}/server-instance-groups", {
            "label": "web", "instanceCount": count, "defaultServerTypeId": kind, "osTemplateId": self.template})["id"]
        self.groups = [self.group]
        if self.boot_drive:
            self.san_group(kind)
        if self.node:
            self.shared_storage(network)
        connection = {"logicalNetworkId": str(network), "tagged": False, "accessMode": "l2", "mtu": 1500, "providesDefaultRoute": True}
        for group in self.groups:
            api.post(f"/server-instance-groups/{group}/config/networking/connections", connection)

    def san_group(self, kind):
        """A group whose instances boot from a drive in the storage; nothing is asked of their local disks."""
        api = self.api
        group = api.post(f"/infrastructures/{self.infrastructure}/server-instance-groups", {
            "label": "san", "instanceCount": 1, "defaultServerTypeId": kind, "osTemplateId": self.template})["id"]
        self.groups.append(group)
        api.post(f"/infrastructures/{self.infrastructure}/drive-groups", {
            "label": "root", "serverInstanceGroupId": group, "driveSizeMbDefault": DISK_GIB << 10, "storagePoolId": self.pool, "boot": True})

    def shared_storage(self, network):
        """One drive and one file share for all instances of all groups."""
        api, base = self.api, f"/infrastructures/{self.infrastructure}"
        drive = api.post(f"{base}/drives", {"label": "data", "sizeMb": 64, "storagePoolId": self.pool})["id"]
        self.drive = f"/drives/{drive}"
        hosts = [{"serverInstanceGroupId": group, "operationType": "add"} for group in self.groups]
        api.post(f"{base}/drives/{drive}/actions/modify-server-instance-group-hosts-bulk", {"sharedDriveHostBulkOperations": hosts})
        if self.node.shares:
            share = api.post(f"{base}/file-shares", {"label": "home", "sizeGB": 1, "storagePoolId": self.pool, "logicalNetworkId": int(network)})["id"]
            api.post(f"{base}/file-shares/{share}/actions/modify-instance-array-hosts-bulk", {"fileShareHostBulkOperations": hosts})

    def action(self, name, loss=False):
        shutdown = {"attemptSoftShutdown": True, "softShutdownTimeout": 60, "attemptHardShutdown": True, "forceShutdown": False}
        return self.api.post(f"/infrastructures/{self.infrastructure}/actions/{name}", {"allowDataLoss": loss, "shutdownOptions": shutdown})

    def deploy(self, loss=False):
        plan = self.action("plan", loss)
        for problem in plan["problems"]:
            # That a group boots over a network of the design is warned of; all else would be new.
            assert problem["severity"] == "warning" and problem["code"] == "boot_from_san", json.dumps(plan["problems"], indent=1)
        assert not any(j["function"] == "switch.apply" for j in plan["jobs"]), "no switch is ours"
        self.action("deploy", loss)
        seen = {}

        def finished():
            now = self.api.get(f"/infrastructures/{self.infrastructure}")
            group = now["config"].get("jobGroupId")
            for job in self.api.get(f"/job-groups/{group}/jobs?limit=100")["data"] if group else []:
                key = (job["jobId"], job["status"])
                if seen.get(job["jobId"]) != job["status"]:
                    seen[job["jobId"]] = job["status"]
                    if job["status"] != "not_called":
                        say(f"{time.monotonic() - self.phases.begun:6.1f} s    {job.get('title') or job['functionName']}: {job['status']}")
                if job["status"] == "thrown_error":
                    raise RuntimeError(json.dumps(job, indent=1))
            return now["config"]["deployStatus"] == "finished" and now

        return until("the deploy", 600, finished, 1)

    def instances(self):
        """Label, machine, address, login of every instance, as its owner reads them."""
        found = []
        for row in self.api.get(f"/infrastructures/{self.infrastructure}/server-instances?limit=100")["data"]:
            credentials = self.api.get(f"/server-instances/{row['id']}/credentials")
            machine = next(m for m in self.dc.machines if self.servers[m.name] == row["serverId"])
            found.append({"row": row, "machine": machine, "san": self.boot_drive and row["groupId"] == self.groups[-1], "address": address_of(row), "user": credentials["username"], "password": credentials["initialPassword"]})
        return found

    def ssh(self, instance, command, password=False):
        """What a command says, or None; what went wrong is kept for the one who waits for it."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"]
        if password:
            prefix, options = ["sshpass", "-p", instance["password"]], [*options, "-o", "PubkeyAuthentication=no"]
        else:
            prefix, options = [], [*options, "-i", self.key, "-o", "PasswordAuthentication=no", "-o", "IdentitiesOnly=yes"]
        command = [*prefix, "ssh", *options, f"{instance['user']}@{instance['address']}", command]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            self.refused = "no answer"
            return None
        self.refused = (done.stdout + done.stderr).strip()
        return done.stdout.strip() if done.returncode == 0 else None

    def reachable(self, count):
        """Each is the system that was asked for, at the address and with the login that the interface told."""
        instances = self.instances()
        assert len(instances) == count, instances
        for i in instances:
            label, machine = i["row"]["label"], i["machine"]

            def says(command, seconds=60, **how):
                return self.says(i, command, seconds, **how)

            i["name"] = says("hostname", 600)
            assert i["name"] == i["row"]["hostname"], (i["name"], i["row"]["hostname"])
            assert "VERSION_CODENAME=bookworm" in says("cat /etc/os-release")
            assert machine.mac in says("ip -o link show dev nic0")
            addresses = says("ip -4 -o addr show dev nic0 scope global")
            assert addresses.count("inet ") == 1 and f" {i['address']}/24 " in addresses, addresses
            # From the seed, not from whoever answered: and nothing of the seed was taken for an error.
            assert "dynamic" not in addresses, addresses
            stages = "import json; d = json.load(open('/run/cloud-init/status.json'))['v1']; print(d['init-local']['errors'] + d['init']['errors'])"
            assert (errors := says(f'sudo -n python3 -c "{stages}"')) == "[]", errors
            assert says("ip route show default").split()[2] == GATEWAY
            firmware = says("test -d /sys/firmware/efi && echo UEFI || echo BIOS")
            assert firmware == ("UEFI" if machine.uefi else "BIOS"), firmware
            assert says("id -un", password=True) == i["user"]
            assert says("sudo -n id -un") == "root"
            # The whole disk is used: what was written was grown.
            size = int(says("df --output=size -BM / | tail -1").rstrip("M"))
            assert size > DISK_GIB * 1024 * 0.8, size
            assert says("sudo sh -c 'echo of-a-tenant > /root/secret; sync' && echo kept") == "kept"
            self.leased(i)
            root = says("echo on: $(lsblk -dnro TRAN /dev/$(lsblk -nro PKNAME $(findmnt -nro SOURCE /))) $(ls -d /sys/firmware/ibft 2>/dev/null)")
            assert ("iscsi" in root and "ibft" in root) == i["san"], (label, root)
        names = {i["name"] for i in instances}
        assert len(names) == count, names
        return instances

    def says(self, instance, command, seconds=60, **how):
        # A system that has just started restarts its services: what fails once may hold in a second.
        try:
            return until(f"{instance['row']['label']}: {command}", seconds, lambda: self.ssh(instance, command, **how), 1)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; {self.refused}") from None

    def shares(self, instances, mark):
        """All see the same volume over iSCSI and the same file share, and nobody else may come in: the target itself is asked."""
        identity = self.api.get(self.drive)["wwn"].lower()[-16:]
        assert len(identity) == 16, identity
        for i in instances:
            # By the identity that the interface tells. It is attached last in the first start of a system.
            i["disk"] = self.says(i, f"lsblk -dnpo NAME,TRAN,WWN | awk '$2 == \"iscsi\" && tolower($3) ~ /{identity}$/ {{print $1}}' | grep .", 400)
            i["iqn"] = self.says(i, "sudo sed -n 's/^InitiatorName=//p' /etc/iscsi/initiatorname.iscsi")
            assert int(self.says(i, f"lsblk -dnbo SIZE {i['disk']}")) == 64 << 20
        first, *others = instances
        self.says(first, f"echo '{mark}' | sudo dd of={first['disk']} bs=512 count=1 conv=sync oflag=direct status=none && echo written")
        for i in others:
            read = self.says(i, f"sudo dd if={i['disk']} bs=512 count=1 iflag=direct status=none | tr -d '\\0'")
            assert read == mark, (read, mark)
        self.only(instances)
        if self.node.shares:
            places = {self.says(i, "findmnt -nrt nfs4 -o TARGET", 120) for i in instances}
            assert len(places) == 1, places
            place = places.pop()
            self.says(first, f"echo '{mark}' | sudo tee {place}/mark && sync")
            for i in others:
                assert self.says(i, f"sudo cat {place}/mark") == mark

    def only(self, instances):
        """Exactly these may log in at the shared drive's target."""
        targets = self.node.targets()
        target, wanted = targets[f"sy-drive-{self.drive.rsplit('/', 1)[-1]}"], {i["iqn"] for i in instances}
        assert target["allowed"] == target["in"] == wanted, (targets, wanted)
        assert target["accounts"], "no login is asked for"

    def leased(self, instance):
        """During its installation the machine had the same address by DHCP."""
        word = f"has the address {instance['address']}/24"
        assert instance["machine"].says(word), f"{instance['machine'].name} was not given {instance['address']} by DHCP"

    @staticmethod
    def told(instances):
        return ", ".join(f"{i['address']} {i['machine'].kind}{' from its drive' if i['san'] else ''}" for i in instances)

    def written(self, instances):
        """Local disks hold something, but not those of systems that lie in the storage."""
        for i in instances:
            assert i["machine"].is_blank(self.work) == i["san"], (i["row"]["label"], i["san"])
            if self.options.keep_logs:
                with open(os.path.join(self.work, f"{i['machine'].name}-start.log"), "w") as f:
                    f.write(self.ssh(i, "systemd-analyze time; systemd-analyze blame | head -40; systemd-analyze critical-chain ssh.service") or self.refused)

    def erased(self, machines):
        for m in machines:
            assert m.name not in self.dc.running(), f"{m.name} is on"
            assert m.is_blank(self.work), f"the disk of {m.name} still holds something"

    # The whole

    def tell(self):
        self.begin()
        self.controllers()
        self.settings()
        if self.node:
            self.storage()
        self.register()
        if self.options.until == "available":
            return
        if self.options.ipmi:
            self.over_ipmi(self.dc.machines[:2][-1])
        san = int(self.boot_drive)
        total = len(self.dc.machines) - san
        first = max(1, total - 1)
        self.design(first)
        self.deploy()
        self.phases.done(f"group of {first} deployed" + (", one that boots from a drive" if san else ""), "image fetched by the site, written, started")
        before = self.reachable(first + san)
        self.phases.done("each answers SSH, by key and by password", self.told(before))
        if self.node:
            self.shares(before, "written by the first")
            self.phases.done("one drive, one share, the same bytes for all", "and for nobody else, says the target")
        if self.options.until == "deployed":
            return
        if total > first:
            self.resize(total)
            after = self.reachable(total + san)
            kept = {i["row"]["id"]: i["address"] for i in after}
            assert all(kept[i["row"]["id"]] == i["address"] for i in before), "addresses moved"
            self.phases.done("each answers SSH", self.told(after))
            if self.node:
                self.shares(after, "written after growing")
                self.phases.done("the new one has drive and share too")
            self.written(after)
            self.resize(first, loss=True)
            left = self.instances()
            assert len(left) == first + san and {i["row"]["id"] for i in left} < set(kept), left
            if self.node:
                self.only([i for i in after if i["row"]["id"] in {k["row"]["id"] for k in left}])
                self.phases.done("the one that left has lost its access", "says the target")
        else:
            self.written(before)
        self.api.call("DELETE", f"/infrastructures/{self.infrastructure}")
        self.deploy(loss=True)
        self.phases.done("deleted, disks erased")
        self.erased(self.dc.machines)
        if self.node:
            assert not self.node.targets(), self.node.targets()
        # Every disk has its certificate, by the serial number that the machine itself sees.
        certificates = self.api.get("/servers/cleaning-certificates?limit=100")["data"]
        told = json.dumps([c for c in certificates if c["succeeded"]])
        assert all(f"LAB-DISK-{m.number}" in told for m in self.dc.machines), certificates
        states = {r["managementAddress"]: r["serverStatus"] for r in self.api.get("/servers?limit=100")["data"]}
        assert set(states.values()) == {"available"}, states
        self.phases.done("disks read: nothing left; all available again")

    def resize(self, count, loss=False):
        self.api.call("PATCH", f"/server-instance-groups/{self.group}/config", {"instanceCount": count})
        self.deploy(loss)
        self.phases.done(f"{'shrunk' if loss else 'grown'} to {count}")


def address_of(row):
    """The first address that an instance is shown with."""
    text = json.dumps(row)
    found = [word for word in text.replace('"', " ").replace("/", " ").split() if word.startswith("10.77.0.") and word not in (GATEWAY, "10.77.0.0")]
    assert found, text
    return found[0].rstrip(",")


def tell(options, begun):
    story = Story(options, begun, options.work)
    good = False
    try:
        story.tell()
        good = True
    except KeyboardInterrupt:
        say("stopped")
    except BaseException:
        traceback.print_exc()
        if isinstance(sys.exception(), subprocess.CalledProcessError):
            print(sys.exception().output)
        for name in ("site", "global"):
            path = os.path.join(options.work, f"{name}.log")
            if os.path.exists(path):
                lines = [line for line in open(path, errors="replace").read().splitlines() if " DEBUG " not in line]
                print(f"--- the end of {name}.log", *lines[-15:], sep="\n")
        for m in story.dc.machines:
            if os.path.exists(m.console):
                tail = open(m.console, "rb").read()[-1500:].decode(errors="replace")
                print(f"--- the end of the console of {m.name}\n{tail}")
    finally:
        if options.keep_logs:
            os.makedirs(options.keep_logs, exist_ok=True)
            for name in os.listdir(options.work):
                if name.endswith((".log", ".console", ".xml", ".toml")):
                    shutil.copy(os.path.join(options.work, name), options.keep_logs)
        story.dc.stop()
    story.phases.table(story.accel, good)
    return good
