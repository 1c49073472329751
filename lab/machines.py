"""The datacenter: a bridge, libvirt, virtual machines and their BMCs, in the namespaces that the lab was started in."""
import contextlib
import crypt
import http.server
import os
import subprocess
import threading
import time

import prepare
from prepare import say

# Where machines boot, and where the site is; and the out-of-band network.
GATEWAY = "10.77.0.1"
BMC = "10.78.0.{}"
LOGIN = ("root", "calvin")
DISK_GIB = 2
# What a BMC says of itself when it asks for an address.
VENDOR_CLASS = "OpenBMC"


def run(*command, **more):
    begun = time.monotonic()
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more).stdout
    finally:
        if time.monotonic() - begun > 5:
            say(f"  {' '.join(command)[:80]} took {time.monotonic() - begun:.0f} s")


WATCHED = []


def until(what, seconds, ready, pause=0.2):
    """Waits for something and answers it; not for what can no longer come because a program has ended."""
    end = time.monotonic() + seconds
    while True:
        for name, child in WATCHED:
            if child.poll() is not None:
                raise RuntimeError(f"{what}: {name} has ended with status {child.returncode}")
        found = ready()
        if found:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Host:
    """A network namespace of its own, with a cable to a bridge."""

    def __init__(self, dc, name, bridge, addresses=(), mac=None):
        self.dc = dc
        self.holder = dc.start(f"{name}-net", "unshare", "--net", "sleep", "infinity")
        apart = lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        until(f"the namespace of {name}", 10, apart, 0.02)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", f"to-{name}", "up", "master", bridge)
        run(*self.inside("ip", "link", "set", "lo", "up"))
        if mac:
            run(*self.inside("ip", "link", "set", "eth0", "address", mac))
        run(*self.inside("ip", "link", "set", "eth0", "up"))
        for address in addresses:
            run(*self.inside("ip", "addr", "add", address, "dev", "eth0"))

    def inside(self, *command):
        return ["nsenter", "-t", str(self.holder.pid), "-n", *command]

    def start(self, name, *command):
        return self.dc.start(name, *self.inside(*command))


class Machine:
    def __init__(self, work, number, uefi, http, way):
        self.number, self.uefi, self.http, self.way = number, uefi, http, way
        self.name = f"lab{number}"
        self.uuid = f"5bd1e995-0000-4000-8000-{number:012d}"
        self.mac = f"52:54:00:77:00:{number:02x}"
        # A BMC that finds its way by itself has the address that DHCP gives it.
        self.bmc = BMC.format(10 + number) if way == "address" else None
        self.bmc_mac = f"52:54:00:78:00:{number:02x}"
        self.host = None
        self.disk = os.path.join(work, f"{self.name}.qcow2")
        self.console = os.path.join(work, f"{self.name}.console")
        self.kind = "UEFI" if uefi else "BIOS"

    def xml(self, work, accel):
        domain, cpu = ("kvm", "<cpu mode='host-passthrough'/>") if accel == "kvm" else ("qemu", "<cpu mode='maximum'/>")
        firmware, machine, rom = "", "pc", ""
        if self.uefi:
            vars_ = os.path.join(work, f"{self.name}.vars.fd")
            firmware = (
                "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
                f"<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{vars_}</nvram>"
            )
            # Its own PXE, as servers have it: then ipxe.efi comes over TFTP.
            machine, rom = "q35", "<rom enabled='no'/>"
        # Firmware that is told not to use PXE boots over HTTP.
        no_pxe = "".join(f"<entry name='opt/org.tianocore/IPv{v}PXESupport'>no</entry>" for v in (4, 6))
        firmware_settings = f"<sysinfo type='fwcfg'>{no_pxe}</sysinfo>" if self.http else ""
        return f"""<domain type='{domain}'><name>{self.name}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>1024</memory><vcpu>1</vcpu>{cpu}
<os><type arch='x86_64' machine='{machine}'>hvm</type>{firmware}<boot dev='hd'/></os>{firmware_settings}<features><acpi/><apic/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap' detect_zeroes='unmap' cache='unsafe'/>
<source file='{self.disk}'/><target dev='vda' bus='virtio'/><serial>LAB-DISK-{self.number}</serial></disk>
<interface type='bridge'><mac address='{self.mac}'/><source bridge='br0'/><model type='virtio'/>{rom}</interface>
<serial type='file'><source path='{self.console}' append='on'/></serial>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><memballoon model='none'/></devices></domain>"""

    def is_blank(self, work):
        """Whether its disk reads as zeros from end to end."""
        blank = os.path.join(work, "blank.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", blank, f"{DISK_GIB}G")
        return subprocess.run(["qemu-img", "compare", "-q", "-U", blank, self.disk], stdout=subprocess.DEVNULL).returncode == 0

    def says(self, word, since=0):
        try:
            with open(self.console, "rb") as f:
                f.seek(since)
                return word.encode() in f.read()
        except OSError:
            return False

    def console_size(self):
        return os.path.getsize(self.console) if os.path.exists(self.console) else 0


class Datacenter:
    def __init__(self, options, work):
        self.work, self.options = work, options
        self.children = WATCHED
        count = options.machines
        uefi = {1} if options.uefi_first else ({count} if count >= 3 else set())
        # One finds its way by itself, one does and then waits for its login, the others are registered by address.
        ways = {1: "by itself", 3: "waits"} if not (options.ipmi and count == 1) else {}
        self.machines = [Machine(work, n, n in uefi, n in uefi and options.uefi_http, ways.get(n, "address")) for n in range(1, count + 1)]

    def start(self, name, *command, env=None, nice=0):
        log = open(os.path.join(self.work, f"{name}.log"), "ab")
        child = subprocess.Popen(
            ["nice", "-n", str(nice), *command], stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **(env or {})}, cwd=self.work
        )
        self.children.append((name, child))
        return child

    def network(self):
        # The view of /sys belongs to the namespace of the one who mounts it.
        run("mount", "-t", "sysfs", "sysfs", "/sys")
        for command in (
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            f"addr add {GATEWAY}/24 dev br0",
            "link add oob type bridge",
            "link set oob up",
            f"addr add {BMC.format(1)}/24 dev oob",
        ):
            run("ip", *command.split())
        for m in self.machines:
            if m.bmc:
                run("ip", "addr", "add", f"{m.bmc}/24", "dev", "oob")
        # A bridge without ports has no carrier, and its IPv6 address would not settle.
        run("ip", "link", "add", "idle0", "type", "veth", "peer", "name", "idle1")
        run("ip", "link", "set", "idle1", "up")
        run("ip", "link", "set", "idle0", "up", "master", "br0")

    def acceleration(self):
        """KVM where it is good for something: some machines offer it and then take minutes for what takes seconds."""
        if self.options.accel != "auto":
            return self.options.accel
        if not os.path.exists("/dev/kvm"):
            return "tcg"
        console = os.path.join(self.work, "kvm.console")
        agent = os.path.join(prepare.BOOT, "agent")
        command = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "512", "-display", "none", "-monitor", "none", "-no-reboot",
                   "-serial", f"file:{console}", "-kernel", f"{agent}/vmlinuz", "-initrd", f"{agent}/initrd", "-append", "console=ttyS0 quiet"]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 10
            while time.monotonic() < end and child.poll() is None:
                if os.path.exists(console) and b"steelyard-agent" in open(console, "rb").read():
                    return "kvm"
                time.sleep(0.1)
            return "tcg"
        finally:
            child.kill()
            child.wait()

    def libvirt(self, accel):
        # libvirt's folders are those of this run alone.
        for folder in ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/run"):
            os.makedirs(folder, exist_ok=True)
            run("mount", "-t", "tmpfs", "tmpfs", folder)
        os.makedirs("/run/libvirt", exist_ok=True)
        with open("/etc/libvirt/qemu.conf", "w") as f:
            f.write('user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\nstdio_handler = "file"\nnamespaces = []\n')
        config = os.path.join(self.work, "libvirtd.conf")
        with open(config, "w") as f:
            f.write('auth_unix_rw = "none"\nunix_sock_group = "root"\n')
        self.start("libvirtd", "libvirtd", "-f", config, nice=5)
        alive = lambda: subprocess.run(["virsh", "-q", "list"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        until("libvirtd", 30, alive)
        for m in self.machines:
            run("qemu-img", "create", "-q", "-f", "qcow2", m.disk, f"{DISK_GIB}G")
            path = os.path.join(self.work, f"{m.name}.xml")
            with open(path, "w") as f:
                f.write(m.xml(self.work, accel))
            run("virsh", "-q", "define", path)

    def bmcs(self):
        key, cert = os.path.join(self.work, "bmc.key"), os.path.join(self.work, "bmc.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bmc", "-keyout", key, "-out", cert)
        users = os.path.join(self.work, "bmc.users")
        with open(users, "w") as f:
            f.write(f"{LOGIN[0]}:{crypt.crypt(LOGIN[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=32))}\n")
        for m in self.machines:
            config = os.path.join(self.work, f"bmc{m.number}.conf")
            with open(config, "w") as f:
                f.write(
                    f"SUSHY_EMULATOR_LISTEN_IP={m.bmc or '0.0.0.0'!r}\nSUSHY_EMULATOR_LISTEN_PORT=443\nSUSHY_EMULATOR_SSL_CERT={cert!r}\nSUSHY_EMULATOR_SSL_KEY={key!r}\n"
                    f"SUSHY_EMULATOR_LIBVIRT_URI='qemu:///system'\nSUSHY_EMULATOR_ALLOWED_INSTANCES=[{m.uuid!r}]\nSUSHY_EMULATOR_AUTH_FILE={users!r}\n"
                    "SUSHY_EMULATOR_BOOT_LOADER_MAP={'UEFI':{'x86_64':'/usr/share/OVMF/OVMF_CODE_4M.fd'},'Legacy':{'x86_64':None}}\n"
                    f"SUSHY_EMULATOR_STATE_DIR={self.work!r}\n"
                )
            if not m.bmc:
                m.host = Host(self, f"bmc{m.number}", "br0", mac=m.bmc_mac)
            (m.host or self).start(f"bmc{m.number}", os.path.join(prepare.VENV, "bin", "sushy-emulator"), "--config", config)
        for m in self.machines:
            until(f"the BMC of {m.name}", 60, lambda: self.redfish(m, "") is not None)

    def plug_in(self, machine):
        """Its BMC asks for an address, as one does that was just put into a rack."""
        lease = os.path.join(self.work, f"bmc{machine.number}.lease")
        script = os.path.join(self.work, "lease.sh")
        with open(script, "w") as f:
            f.write('#!/bin/sh\ncase $1 in bound | renew)\n    ip addr replace "$ip/${mask:-24}" dev "$interface"\n    echo "$ip" >"$LEASE"\n    ;;\nesac\n')
        os.chmod(script, 0o755)
        command = ["busybox", "udhcpc", "-f", "-i", "eth0", "-s", script, "-V", VENDOR_CLASS, "-t", "10", "-A", "1"]
        self.start(f"bmc{machine.number}-dhcp", *machine.host.inside(*command), env={"LEASE": lease})

        def leased():
            with contextlib.suppress(OSError), open(lease) as f:
                machine.bmc = f.read().strip()
            return machine.bmc

        return until(f"an address of the BMC of {machine.name}", 60, leased)

    def ipmi(self, machine):
        """Another BMC for the same machine, that speaks IPMI."""
        folder = os.path.join(self.work, "vbmc")
        os.makedirs(folder, exist_ok=True)
        config = os.path.join(folder, "virtualbmc.conf")
        with open(config, "w") as f:
            f.write(f"[default]\nconfig_dir={folder}/machines\npid_file={folder}/master.pid\n")
        os.makedirs(os.path.join(folder, "machines"), exist_ok=True)
        env = {"VIRTUALBMC_CONFIG": config}
        vbmc = [os.path.join(prepare.VENV, "bin", "vbmc"), "--no-daemon"]
        self.start("vbmcd", os.path.join(prepare.VENV, "bin", "vbmcd"), "--foreground", env=env)
        ready = lambda: subprocess.run([*vbmc, "list"], env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        until("virtualbmc", 30, ready)
        login = ["--username", LOGIN[0], "--password", LOGIN[1], "--address", machine.bmc, "--port", "623", "--libvirt-uri", "qemu:///system"]
        run(*vbmc, "add", machine.name, *login, env={**os.environ, **env})
        run(*vbmc, "start", machine.name, env={**os.environ, **env})

    def redfish(self, machine, path):
        """What its BMC says, asked by something that is not ours."""
        command = ["curl", "-sk", "--max-time", "5", "-u", ":".join(LOGIN), f"https://{machine.bmc or '127.0.0.1'}/redfish/v1/{path}"]
        answer = subprocess.run(machine.host.inside(*command) if machine.host else command, stdout=subprocess.PIPE, text=True)
        return answer.stdout if answer.returncode == 0 and answer.stdout.startswith("{") else None

    def web(self):
        """Serves the operating system's image to the site, as a web server of an organisation does."""
        folder = prepare.CACHE

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *a, **k):
                super().__init__(*a, directory=folder, **k)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((BMC.format(1), 8000), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://{BMC.format(1)}:8000/{os.path.basename(prepare.IMAGE)}"

    def running(self):
        return run("virsh", "-q", "list", "--name").split()

    def stop(self):
        listed = subprocess.run(["virsh", "-q", "list", "--name"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for name in listed.stdout.split():
            subprocess.run(["virsh", "-q", "destroy", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name, child in reversed(self.children):
            # tgt stays as long as it has targets.
            child.kill() if name == "node-tgtd" else child.terminate()
        end = time.monotonic() + 10
        for name, child in self.children:
            try:
                child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"{name} did not stop by itself")
                child.kill()
