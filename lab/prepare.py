"""What the lab needs before it begins: packages, the program, boot files, an operating system. All of it is kept for the next time."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(ROOT, "target", "lab")
BOOT = os.path.join(ROOT, "target", "boot")
IMAGE = os.path.join(CACHE, "debian.qcow2")
VENV = os.path.join(CACHE, "venv")
PYTHON = {"sushy-emulator": "sushy-tools==2.2.0", "vbmcd": "virtualbmc==3.3.0"}

# A file by which a package is known to be there, and the package.
PACKAGES = {
    "/usr/bin/qemu-system-x86_64": "qemu-system-x86",
    "/usr/bin/qemu-img": "qemu-utils",
    "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
    "/usr/lib/ipxe/qemu/pxe-virtio.rom": "ipxe-qemu",
    "/usr/sbin/libvirtd": "libvirt-daemon-system",
    "/usr/bin/virsh": "libvirt-clients",
    "/usr/bin/ssh": "openssh-client",
    "/usr/bin/sshpass": "sshpass",
    "/usr/bin/openssl": "openssl",
    "/usr/bin/unshare": "util-linux",
    "/usr/sbin/ip": "iproute2",
    "/usr/bin/busybox": "busybox",
    "/usr/bin/curl": "curl",
    # The storage node.
    "/usr/sbin/sshd": "openssh-server",
    "/usr/sbin/tgtd": "tgt",
    "/usr/bin/ganesha.nfsd": "nfs-ganesha",
    "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so": "nfs-ganesha-vfs",
    "/usr/sbin/mkfs.xfs": "xfsprogs",
}
FOR_PYTHON = {
    "/usr/include/libvirt/libvirt.h": "libvirt-dev",
    "/usr/bin/pkg-config": "pkg-config",
    "/usr/bin/gcc": "gcc",
}
FOR_IMAGE = {
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/sbin/mkfs.vfat": "dosfstools",
    "/usr/bin/mcopy": "mtools",
    "/usr/bin/syslinux": "syslinux",
    "/usr/lib/syslinux/mbr/gptmbr.bin": "syslinux-common",
    "/usr/lib/systemd/boot/efi/systemd-bootx64.efi": "systemd-boot-efi",
    "/usr/sbin/sfdisk": "fdisk",
}
FOR_BOOT = {"/usr/bin/cpio": "cpio", "/usr/sbin/depmod": "kmod"}


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


def present(path):
    return os.path.exists(path) or (path.startswith("/usr/sbin/") and os.path.exists(path[4:])) or bool(shutil.which(os.path.basename(path)))


def unavailable(what):
    """Not a failure of what is tested; CI tells the two apart by the status."""
    say(what)
    raise SystemExit(75)


def packages(wanted):
    missing = sorted({package for path, package in wanted.items() if not present(path)})
    if not missing:
        return
    say("installing " + " ".join(missing))
    if not shutil.which("apt-get"):
        unavailable(f"missing, and there is no apt here to install them: {' '.join(missing)}")
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    # Nothing that is installed shall start by itself.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    quiet = {"env": env, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    if subprocess.run(install, stderr=subprocess.DEVNULL, **quiet).returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        if subprocess.run(install, **quiet).returncode != 0:
            unavailable(f"packages cannot be installed: {' '.join(missing)}")


def newest(*roots):
    found = 0.0
    for root in roots:
        for folder, _, files in os.walk(os.path.join(ROOT, root)):
            found = max([found, *(os.path.getmtime(os.path.join(folder, f)) for f in files if f.endswith((".rs", ".toml")))])
    return found


def everything(options):
    begun = time.monotonic()
    os.makedirs(CACHE, exist_ok=True)
    packages(PACKAGES)
    missing = [package for name, package in PYTHON.items() if not os.path.exists(os.path.join(VENV, "bin", name))]
    if missing:
        say(f"installing {' '.join(missing)} into {VENV}")
        have_venv = subprocess.run([sys.executable, "-m", "venv", VENV], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if have_venv.returncode != 0:
            packages({"/nowhere/venv": "python3-venv"})
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        packages(FOR_PYTHON)
        pip = [os.path.join(VENV, "bin", "pip"), "install", "-q", *missing, "libvirt-python", "bcrypt"]
        if subprocess.run(pip).returncode != 0:
            unavailable(f"Python packages cannot be installed: {' '.join(missing)}")
    if not os.path.exists(os.path.join(ROOT, options.binary)):
        say("building the program")
        subprocess.run(["cargo", "build", "-q", "-p", "steelyard"], cwd=ROOT, check=True)
    initrd = os.path.join(BOOT, "agent", "initrd")
    script = os.path.join(ROOT, "scripts", "agent-image.sh")
    if not os.path.exists(initrd) or os.path.getmtime(initrd) < max(newest("crates/agent/src"), os.path.getmtime(script)):
        say("making the boot image")
        packages(FOR_BOOT)
        subprocess.run([script, BOOT], check=True, stdout=subprocess.DEVNULL)
    script = os.path.join(ROOT, "lab", "os-image.sh")
    if not os.path.exists(IMAGE) or os.path.getmtime(IMAGE) < os.path.getmtime(script):
        say("making the operating system's image")
        packages(FOR_IMAGE)
        log = os.path.join(CACHE, "os-image.log")
        with open(log, "w") as f:
            if subprocess.run([script, IMAGE], stderr=f).returncode != 0:
                raise SystemExit(f"lab: the operating system's image could not be made; see {log}")
    digest()
    say(f"prepared in {time.monotonic() - begun:.0f} s")


def digest():
    """SHA-256 and size of the image; computed once for each image."""
    about = os.stat(IMAGE)
    key = f"{about.st_size} {about.st_mtime_ns}"
    note = IMAGE + ".sha256.json"
    try:
        with open(note) as f:
            kept = json.load(f)
        if kept["key"] == key:
            return kept["sha256"], about.st_size
    except (OSError, ValueError, KeyError):
        pass
    with open(IMAGE, "rb") as f:
        sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    with open(note, "w") as f:
        json.dump({"key": key, "sha256": sha256}, f)
    return sha256, about.st_size
