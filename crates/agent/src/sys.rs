//! The few calls to the kernel that have no safe wrapper.
#![allow(unsafe_code, reason = "ioctls of block devices and the interface index of a packet have no safe wrapper")]

use std::{fs::File, io};

use rustix::ioctl::{self, NoArg, Opcode, Setter, opcode};

const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);
const BLKRRPART: Opcode = opcode::none(0x12, 95);
const NVME_ADMIN: Opcode = opcode::read_write::<NvmeCommand>(b'N', 0x41);

/// Tells a disk that a part of it is not needed any more.
pub fn discard(file: &File, offset: u64, length: u64) -> io::Result<()> {
    // SAFETY: the kernel reads two 64-bit numbers.
    unsafe { ioctl::ioctl(file, Setter::<BLKDISCARD, [u64; 2]>::new([offset, length])) }.map_err(Into::into)
}

/// Makes a part of a disk read as zeros.
pub fn zero_out(file: &File, offset: u64, length: u64) -> io::Result<()> {
    // SAFETY: the kernel reads two 64-bit numbers.
    unsafe { ioctl::ioctl(file, Setter::<BLKZEROOUT, [u64; 2]>::new([offset, length])) }.map_err(Into::into)
}

/// Has the kernel read the partition table again.
pub fn reread_partitions(file: &File) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl::ioctl(file, NoArg::<BLKRRPART>::new()) }.map_err(Into::into)
}

/// `struct nvme_admin_cmd` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// Formats an NVMe namespace in the layout that it has, erasing all user data.
pub fn nvme_format(file: &File, namespace: u32) -> io::Result<()> {
    let mut identity = vec![0_u8; 4096];
    let identify = NvmeCommand {
        opcode: 0x06,
        namespace,
        address: identity.as_mut_ptr() as u64,
        data_length: 4096,
        ..NvmeCommand::default()
    };
    // SAFETY: the structure is the kernel's; the buffer that it points to is 4096 bytes long and outlives the call.
    unsafe { ioctl::ioctl(file, Setter::<NVME_ADMIN, NvmeCommand>::new(identify)) }?;
    let layout = u32::from(identity.get(26).copied().unwrap_or(0) & 0x0f);
    let format = NvmeCommand {
        opcode: 0x80,
        namespace,
        cdw10: layout | (1 << 9),
        timeout_ms: 30 * 60 * 1000,
        ..NvmeCommand::default()
    };
    // SAFETY: the structure is the kernel's; it points to nothing.
    unsafe { ioctl::ioctl(file, Setter::<NVME_ADMIN, NvmeCommand>::new(format)) }.map_err(Into::into)
}

/// Interface index in the address of a packet socket.
pub fn interface_index(address: &rustix::net::SocketAddrAny) -> Option<u32> {
    const PACKET: u16 = 17;
    if address.address_family().as_raw() != PACKET || address.addr_len() < 8 {
        return None;
    }
    // SAFETY: the storage is larger than 8 bytes, initialised, and lives as long as the address.
    let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), 8) };
    let index = bytes.get(4..8).and_then(|b| <[u8; 4]>::try_from(b).ok())?;
    u32::try_from(i32::from_ne_bytes(index)).ok()
}
