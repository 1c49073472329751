//! Files on disk, read without keeping the runtime waiting.

use std::{
    fs::File,
    io::{self, IoSliceMut, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::spawn_blocking;

/// Buffers that are kept for the next read.
const SPARE: usize = 64;

/// Buffers that were used before: fresh memory costs more than the read itself.
static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that goes back to the pool.
struct Buffer(Vec<u8>);

impl Buffer {
    fn of(size: usize) -> Self {
        let spare = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = spare.unwrap_or_default();
        buffer.resize(size, 0);
        Self(buffer)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < SPARE {
            pool.push(std::mem::take(&mut self.0));
        }
    }
}

/// Exactly `size` bytes at an offset. What the system holds in memory is copied at once; only a read that must wait for the disk goes to
/// another thread, since waking one takes longer than the copy.
pub(crate) async fn read_at(file: &Arc<File>, at: u64, size: usize) -> io::Result<Bytes> {
    let mut buffer = Buffer::of(size);
    let mut done = 0;
    while done < size {
        let rest = buffer.0.get_mut(done..).unwrap_or_default();
        match rustix::io::preadv2(&**file, &mut [IoSliceMut::new(rest)], at + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            // Not in memory, or a file system that cannot tell.
            Err(_) => {
                let file = file.clone();
                let read = spawn_blocking(move || {
                    let rest = buffer.0.get_mut(done..).unwrap_or_default();
                    file.read_exact_at(rest, at + done as u64).map(|()| buffer)
                });
                return read.await.map_err(io::Error::other)?.map(Bytes::from_owner);
            }
        }
    }
    Ok(Bytes::from_owner(buffer))
}

/// Has a part of a file in memory before the system sends it by itself. It is taken to be there when its ends are.
pub(crate) async fn warm(file: &Arc<File>, from: u64, until: u64) {
    let away = |at: u64| {
        let mut byte = [0];
        rustix::io::preadv2(&**file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
    };
    if away(from) || away(until.saturating_sub(1)) {
        let file = file.clone();
        // What is wrong with it shows when it is sent.
        let _ = spawn_blocking(move || {
            let mut buffer = Buffer::of(usize::try_from(until - from).unwrap_or(0));
            file.read_exact_at(&mut buffer.0, from)
        })
        .await;
    }
}

/// A regular file with its length.
#[derive(Clone, Debug)]
pub struct OpenFile {
    file: Arc<File>,
    len: u64,
    /// Seconds and nanoseconds of its last change, and its number: who has seen them has seen this content.
    stamp: (i64, i64, u64),
}

impl OpenFile {
    /// Opens a file below a folder. A path that leaves the folder, by `..` or by a symbolic link, is `PermissionDenied`.
    pub(crate) fn open(root: &Path, name: &str) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let root = root.canonicalize()?;
        let path = root.join(name).canonicalize()?;
        if !path.starts_with(&root) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // Asked before opening: opening a named pipe would block.
        if !path.metadata()?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(path)?;
        let about = file.metadata()?;
        Ok(Self { file: Arc::new(file), len: about.len(), stamp: (about.mtime(), about.mtime_nsec(), about.ino()) })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// A word that is another one for another content.
    pub(crate) fn tag(&self) -> String {
        let (seconds, nanoseconds, number) = self.stamp;
        format!("\"{seconds:x}.{nanoseconds:x}-{number:x}-{:x}\"", self.len)
    }

    pub(crate) fn inner(&self) -> &Arc<File> {
        &self.file
    }

    /// All of it, as long as it was when it was opened.
    pub(crate) fn read_all(&self) -> io::Result<Bytes> {
        let mut all = Vec::with_capacity(usize::try_from(self.len).map_err(io::Error::other)?);
        (&*self.file).take(self.len).read_to_end(&mut all)?;
        if all.len() as u64 == self.len { Ok(all.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_are_read_whole_and_a_file_that_shrank_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(dir.path().join("f"), &content).unwrap();
        let open = OpenFile::open(dir.path(), "f").unwrap();
        assert_eq!(open.read_all().unwrap(), content);
        for (at, size) in [(0, 300_000), (7, 131_072), (299_999, 1), (5, 0)] {
            assert_eq!(read_at(open.inner(), at as u64, size).await.unwrap(), content[at..at + size]);
        }
        assert_eq!(read_at(open.inner(), 299_000, 2000).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
