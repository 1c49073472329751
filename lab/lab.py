#!/usr/bin/env python3
"""Installs operating systems on virtual machines, as a datacenter does on real ones.

Three QEMU machines (two with BIOS and iPXE in their network card, one with UEFI) hang on a bridge. Their BMCs are Redfish services of
sushy-tools, over libvirt; drives and file shares come from a storage node with tgt and NFS-Ganesha. A Global Controller
and a Site Controller find, register, install, grow, erase and free them; all is asked for over the public REST interface. What is claimed is
then looked at from outside: over SSH in the installed systems, at the target of the drive, and in the disk files.
"""
import argparse
import sys
import time

import prepare
import story

parser = argparse.ArgumentParser(prog="lab/run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("stage", nargs="?", choices=["prepare", "run"], help=argparse.SUPPRESS)
parser.add_argument("--work", help=argparse.SUPPRESS)
parser.add_argument("--binary", default="target/debug/steelyard", help="the program to test (default %(default)s; built when it is not there)")
parser.add_argument("--machines", type=int, default=3, choices=[1, 2, 3], help="1: one machine with BIOS; 2: two; 3: the third has UEFI (default)")
parser.add_argument("--uefi-first", action="store_true", help="the first machine is the one with UEFI")
parser.add_argument("--uefi-http", action="store_true", help="the machine with UEFI boots over HTTP (default: PXE, and TFTP for the first file)")
parser.add_argument("--ipmi", action="store_true", help="the second machine, or the only one, is driven over IPMI (virtualbmc) once it is registered")
parser.add_argument("--no-storage", dest="storage", action="store_false", help="without storage node, shared drive and file share")
parser.add_argument("--boot-drive", action=argparse.BooleanOptionalAction, help="one more group, whose instance boots from a drive of the storage node (default: with three machines)")
parser.add_argument("--no-ra", action="store_true", help="no router advertisements, to see what they save")
parser.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="default: KVM where it boots the boot image in time, else TCG")
parser.add_argument("--until", choices=["available", "deployed", "end"], default="end", help="stop earlier (default: the whole story)")
parser.add_argument("--keep-logs", metavar="FOLDER", help="copies logs and consoles there at the end")
options = parser.parse_args()
if options.boot_drive is None:
    options.boot_drive = options.machines == 3 and not options.ipmi

if options.stage == "prepare":
    prepare.everything(options)
elif options.stage == "run":
    begun = time.monotonic()
    good = story.tell(options, begun)
    sys.exit(0 if good else 1)
else:
    parser.print_help()
