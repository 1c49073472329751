//! The few calls to the kernel that have no safe wrapper.
#![allow(unsafe_code, reason = "ioctls of block devices and the interface index of a packet have no safe wrapper")]

use std::{ffi::c_void, fs::File, io, time::Duration};

use rustix::ioctl::{self, NoArg, Opcode, Setter, opcode};

use crate::wipe::{command::Data, nvme, scsi};

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

/// An admin command; the kernel returns the status of its completion.
struct NvmeAdmin<'a>(&'a mut NvmeCommand);

// SAFETY: the opcode belongs to the structure, whose pointer is good for as long as the call.
unsafe impl ioctl::Ioctl for NvmeAdmin<'_> {
    type Output = u16;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        NVME_ADMIN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: ioctl::IoctlOutput, _: *mut c_void) -> rustix::io::Result<u16> {
        Ok((out & 0x7ff) as u16)
    }
}

fn milliseconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)
}

/// An admin command of NVMe.
pub fn nvme_admin(file: &File, command: &nvme::Command, data: Data<'_>, limit: Duration) -> io::Result<nvme::Answer> {
    let (address, length) = match data {
        Data::None => (0, 0),
        Data::In(bytes) => (bytes.as_mut_ptr() as u64, bytes.len()),
        Data::Out(bytes) => (bytes.as_ptr() as u64, bytes.len()),
    };
    let mut raw = NvmeCommand {
        opcode: command.opcode,
        namespace: command.namespace,
        address,
        data_length: u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?,
        cdw10: command.cdw10,
        cdw11: command.cdw11,
        timeout_ms: milliseconds(limit),
        ..NvmeCommand::default()
    };
    // SAFETY: the structure is the kernel's; the buffer that it points to has that length and outlives the call.
    let status = unsafe { ioctl::ioctl(file, NvmeAdmin(&mut raw)) }?;
    Ok(nvme::Answer { status, result: raw.result })
}

/// `struct sg_io_hdr` of the kernel.
#[repr(C)]
struct SgIo {
    interface: i32,
    direction: i32,
    command_length: u8,
    sense_room: u8,
    vectors: u16,
    length: u32,
    data: *mut c_void,
    command: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    id: i32,
    user: *mut c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_length: u8,
    host_status: u16,
    driver_status: u16,
    residue: i32,
    duration: u32,
    info: u32,
}

/// A command of SCSI.
pub fn sg_io(file: &File, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<scsi::Answer> {
    const SG_IO: Opcode = 0x2285;
    const SENSE: usize = 64;
    let (direction, pointer, length) = match data {
        Data::None => (-1, std::ptr::null_mut(), 0),
        Data::In(bytes) => (-3, bytes.as_mut_ptr().cast::<c_void>(), bytes.len()),
        Data::Out(bytes) => (-2, bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len()),
    };
    let mut sense = [0_u8; SENSE];
    let mut raw = SgIo {
        interface: i32::from(b'S'),
        direction,
        command_length: u8::try_from(cdb.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        sense_room: SENSE as u8,
        vectors: 0,
        length: u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?,
        data: pointer,
        command: cdb.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: milliseconds(limit),
        flags: 0,
        id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_length: 0,
        host_status: 0,
        driver_status: 0,
        residue: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the structure is the kernel's; all buffers that it points to have the lengths that it says and outlive the call. Data that
    // go out are not written to.
    unsafe { ioctl::ioctl(file, ioctl::Updater::<SG_IO, SgIo>::new(&mut raw)) }?;
    let told = Ord::min(usize::from(raw.sense_length), SENSE);
    Ok(scsi::Answer { status: raw.status, host: raw.host_status, sense: sense[..told].to_vec() })
}

/// `struct opal_key` of the kernel.
#[repr(C)]
struct OpalKey {
    range: u8,
    length: u8,
    kind: u8,
    reserved: [u8; 5],
    key: [u8; 256],
}

/// Reverts a TCG Opal disk by the word on its label. The kernel speaks the protocol.
pub fn opal_psid_revert(file: &File, psid: &str) -> io::Result<()> {
    const REVERT: Opcode = opcode::write::<OpalKey>(b'p', 232);
    let length = u8::try_from(psid.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut key = OpalKey { range: 0, length, kind: 0, reserved: [0; 5], key: [0; 256] };
    key.key[..psid.len()].copy_from_slice(psid.as_bytes());
    // SAFETY: the kernel reads the structure, which is its own.
    unsafe { ioctl::ioctl(file, Setter::<REVERT, OpalKey>::new(key)) }.map_err(Into::into)
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
