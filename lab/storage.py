"""A Linux storage node with real programs (sshd, tgt, NFS-Ganesha), in a network namespace of its own on the machines' network."""
import os
import re
import subprocess

from machines import Host, run, until
from prepare import say

# Above what instances get, and what DHCP gives.
ADDRESS = "10.77.0.250"
CONTROL = "1"


class StorageNode:
    def __init__(self, dc):
        self.dc = dc
        self.folder = os.path.join(dc.work, "node")
        self.host = None
        self.shares = False

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self):
        for name in ("pool", "tgt", "exports", "recovery", "shares"):
            os.makedirs(self.path(name))
        for folder in ("/run/sshd", "/run/tgtd"):
            os.makedirs(folder, exist_ok=True)
        open(self.path("fstab"), "w").close()
        self.host = Host(self.dc, "node", "br0", [f"{ADDRESS}/24"])
        for key in ("host_key", "user_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(key))
        with open(self.path("sshd_config"), "w") as f:
            f.write(f"ListenAddress {ADDRESS}\nHostKey {self.path('host_key')}\nAuthorizedKeysFile {self.path('user_key.pub')}\n"
                    "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n")
        self.host.start("node-sshd", "/usr/sbin/sshd", "-D", "-e", "-o", "LogLevel=VERBOSE", "-f", self.path("sshd_config"))
        self.host.start("node-tgtd", "tgtd", "-f", "-C", CONTROL, "--iscsi", f"portal={ADDRESS}:3260")
        until("tgtd", 30, lambda: self.tgtadm() is not None)
        self.ganesha()

    def ganesha(self):
        """Shares are file systems of their own in loop devices, which not every machine has."""
        image = self.path("try.img")
        run("truncate", "-s", "400M", image)
        os.makedirs(self.path("try"), exist_ok=True)
        for command in (["mkfs.xfs", "-q", image], ["mount", "-o", "loop", image, self.path("try")], ["umount", self.path("try")]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                say(f"file shares are left out: {' '.join(command)[:60]}: {done.stdout.strip()}")
                return
        os.remove(image)
        with open(self.path("ganesha.conf"), "w") as f:
            f.write(f"NFS_CORE_PARAM {{ NFS_Port = 2049; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = {ADDRESS}; }}\n"
                    f"NFSv4 {{ Graceless = true; RecoveryRoot = {self.path('recovery')}; Minor_Versions = 1,2; }}\n%dir {self.path('exports')}\n")
        self.host.start("node-ganesha", "ganesha.nfsd", "-F", "-f", self.path("ganesha.conf"), "-p", self.path("ganesha.pid"), "-L", self.path("ganesha.log"))
        self.shares = True

    def registration(self, site):
        """What an administrator says of it."""
        with open(self.path("user_key")) as f:
            key = f.read()
        options = {"volumeName": self.path("pool"), "tgtControlPort": CONTROL, "tgtConfig": self.path("tgt"), "sharesDirectory": self.path("shares"),
                   "ganeshaExports": self.path("exports"), "ganeshaPidFile": self.path("ganesha.pid"), "fstab": self.path("fstab")}
        return {"siteId": site, "driver": "linux", "technologies": ["block", "file"] if self.shares else ["block"], "type": "iscsi", "name": "node",
                "managementHost": ADDRESS, "iscsiHost": ADDRESS, "username": "root", "privateKey": key, "subnetType": "ipv4", "options": options}

    def tgtadm(self):
        done = subprocess.run(["tgtadm", "-C", CONTROL, "--lld", "iscsi", "--op", "show", "--mode", "target"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return done.stdout if done.returncode == 0 else None

    def targets(self):
        """As the target itself tells: who may come in, and who is in, by the name of each volume."""
        found = {}
        for block in re.split(r"(?m)^Target \d+: ", self.tgtadm() or "")[1:]:
            name = block.split("\n", 1)[0].strip().split(":")[-1]
            nexus, rest = block.split("LUN information:", 1)
            allowed = re.findall(r"(?m)^\s+(iqn\.\S+)\s*$", rest.split("ACL information:", 1)[1])
            found[name] = {"allowed": set(allowed), "in": set(re.findall(r"Initiator: (iqn\.\S+)", nexus)), "accounts": "Account information:\n        " in rest}
        return found
