//! Disks: finding, reading, writing. A disk is a block device, or in tests a file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Path, PathBuf},
};

use model::bmc::Disk;

use crate::{
    error::{Error, Result, Words},
    sys,
    wipe::place::{self, Place},
};

/// Bytes of one write or read.
pub const CHUNK: usize = 1 << 20;

/// Where disks are looked for.
#[derive(Clone, Debug)]
pub enum Disks {
    /// Block devices of this machine.
    Machine,
    /// Each file of a folder, in order of name.
    Folder(PathBuf),
}

impl Disks {
    /// Names of all disks, those that a step means by `first` first. `found` is the inventory's list.
    fn all(&self, found: &[Disk]) -> Result<Vec<(String, PathBuf)>> {
        match self {
            Self::Machine => Ok(found.iter().map(|d| (d.name.clone(), Path::new("/dev").join(&d.name))).collect()),
            Self::Folder(folder) => {
                let entries = fs::read_dir(folder).words(|| format!("the folder of disks {}", folder.display()))?;
                let mut all: Vec<(String, PathBuf)> = entries
                    .flatten()
                    .filter(|e| !e.path().is_dir())
                    .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
                    .collect();
                all.sort();
                Ok(all)
            }
        }
    }

    /// Whether the machine has none of its own.
    pub fn none(&self, found: &[Disk]) -> Result<bool> {
        Ok(self.own(found)?.is_empty())
    }

    /// Volumes of storages and what the BMC lends are not this machine's.
    fn own(&self, found: &[Disk]) -> Result<Vec<(String, PathBuf)>> {
        let mut all = self.all(found)?;
        if matches!(self, Self::Machine) {
            all.retain(|(name, _)| !matches!(place::of(Path::new("/"), name).place, Place::Outside(_)));
        }
        Ok(all)
    }

    /// The disks that `all`, `first` or a name mean; `every` are also those that are elsewhere. None is an error.
    pub fn select(&self, which: &str, found: &[Disk]) -> Result<Vec<Device>> {
        let mut all = if matches!(which, "all" | "first") { self.own(found)? } else { self.all(found)? };
        match which {
            "all" | "every" => {}
            "first" => all.truncate(1),
            name => all.retain(|(n, _)| n == name.trim_start_matches("/dev/")),
        }
        if all.is_empty() {
            return Err(Error::Failed(match which {
                "all" | "every" | "first" => {
                    "the machine has no disk; look at its controller and whether the boot image has its driver".into()
                }
                name => format!("the machine has no disk {name}"),
            }));
        }
        all.into_iter().map(|(name, path)| Device::open(&name, &path)).collect()
    }
}

/// An open disk.
pub struct Device {
    /// Kernel's name, `sda`.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Length in bytes.
    pub size: u64,
    file: File,
    block: bool,
}

impl Device {
    /// Opens it for reading and writing.
    pub fn open(name: &str, path: &Path) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
            let block = file.metadata()?.file_type().is_block_device();
            Ok(Self { name: name.to_owned(), path: path.to_owned(), size, file, block })
        };
        open().words(|| format!("disk {name} cannot be opened"))
    }

    /// Opens it once more.
    pub fn again(&self) -> Result<Self> {
        Self::open(&self.name, &self.path)
    }

    /// Whether it is a block device.
    pub fn is_block(&self) -> bool {
        self.block
    }

    fn inside(&self, offset: u64, length: u64) -> Result<()> {
        if offset.checked_add(length).is_some_and(|end| end <= self.size) {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "disk {} ends at {} bytes; {length} bytes at {offset} do not fit",
            self.name, self.size
        )))
    }

    /// Writes all of it.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.inside(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset).words(|| format!("writing to disk {} at {offset}", self.name))
    }

    /// Fills the buffer.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inside(offset, buffer.len() as u64)?;
        self.file.read_exact_at(buffer, offset).words(|| format!("reading disk {} at {offset}", self.name))
    }

    /// Makes a part read as zeros, by the kernel's help where it can.
    pub fn zero(&self, offset: u64, length: u64) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        self.inside(offset, length)?;
        let helped = if self.block {
            sys::zero_out(&self.file, offset, length)
        } else {
            let how = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, how, offset, length).map_err(Into::into)
        };
        if helped.is_ok() {
            return Ok(());
        }
        self.overwrite(offset, length)
    }

    /// Tells the disk that a part is not needed; what it reads afterwards must be checked.
    pub fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        if !self.block {
            return Err(io::ErrorKind::Unsupported.into());
        }
        sys::discard(&self.file, offset, length)
    }

    /// The open file, for commands to the disk itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes zeros over a part, really: the kernel's help may be that the disk only says that it reads as zeros.
    pub fn overwrite(&self, offset: u64, length: u64) -> Result<()> {
        self.inside(offset, length)?;
        let zeros = vec![0; Ord::min(length, CHUNK as u64) as usize];
        let mut at = offset;
        while at < offset + length {
            let part = Ord::min(offset + length - at, zeros.len() as u64);
            self.write(at, &zeros[..part as usize])?;
            at += part;
        }
        Ok(())
    }

    /// Offset of the first byte in a part that is not zero.
    pub fn first_nonzero(&self, offset: u64, length: u64) -> Result<Option<u64>> {
        let mut buffer = vec![0; Ord::min(length, CHUNK as u64) as usize];
        let mut at = offset;
        while at < offset + length {
            let part = Ord::min(offset + length - at, buffer.len() as u64) as usize;
            let part = &mut buffer[..part];
            self.read(at, part)?;
            if !is_zero(part) {
                return Ok(part.iter().position(|b| *b != 0).map(|n| at + n as u64));
            }
            at += part.len() as u64;
        }
        Ok(None)
    }

    /// Brings everything to the medium.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().words(|| format!("writing to disk {}", self.name))
    }

    /// Drops what the kernel keeps of it in memory, so that a read comes from the medium.
    pub fn forget(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Has the kernel read the partition table again. A file has none that the kernel knows.
    pub fn reread_partitions(&self) -> Result<()> {
        if !self.block {
            return Ok(());
        }
        let mut last = None;
        for _ in 0..10 {
            match sys::reread_partitions(&self.file) {
                Ok(()) => return Ok(()),
                Err(e) => last = Some(e),
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let why = last.map(|e| e.to_string()).unwrap_or_default();
        Err(Error::Failed(format!("the partition table of disk {} cannot be read again: {why}", self.name)))
    }

    /// The kernel's file of a partition.
    pub fn partition(&self, number: u32) -> PathBuf {
        let between = if self.name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        Path::new("/dev").join(format!("{}{between}{number}", self.name))
    }
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|c| u128::from_ne_bytes(*c) == 0) && rest.iter().all(|b| *b == 0)
}
