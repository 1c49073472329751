//! Where TFTP's files come from.

use std::{
    collections::HashMap,
    io,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::disk::{OpenFile, read_at};

/// Bytes read at a time: many blocks of a transfer.
const AHEAD: usize = 64 * 1024;

/// A read-only set of files.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files below a directory.
    Directory(PathBuf),
    /// Files in memory by relative path.
    Memory(HashMap<String, Bytes>),
}

/// An open file.
#[derive(Debug)]
pub enum Content {
    /// On disk, with the offset of a part of it that was read ahead.
    File(OpenFile, u64, Bytes),
    /// In memory.
    Memory(Bytes),
}

/// A relative path of plain names from what a client sent: leading slashes are dropped, backslashes are slashes (BIOS
/// firmware), and anything that climbs or is empty is refused.
pub fn relative(name: &str) -> Option<String> {
    let name = name.replace('\\', "/");
    let name = name.trim_start_matches('/');
    let plain = !name.is_empty()
        && !name.contains('\0')
        && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    plain.then(|| name.to_owned())
}

impl Source {
    /// Open a file. A path that leaves the directory, by `..` or by a symbolic link, is `PermissionDenied`.
    pub async fn open(&self, name: &str) -> io::Result<Content> {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let name = relative(name).ok_or_else(denied)?;
        match self {
            Self::Memory(files) => {
                files.get(&name).cloned().map(Content::Memory).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Self::Directory(root) => {
                let root = root.clone();
                let open = spawn_blocking(move || OpenFile::open(&root, &name)).await.map_err(io::Error::other)??;
                Ok(Content::File(open, 0, Bytes::new()))
            }
        }
    }
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::File(open, ..) => open.len(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `want` bytes at an offset; fewer only at the end.
    pub async fn read_at(&mut self, offset: u64, want: usize) -> io::Result<Bytes> {
        let part = |bytes: &Bytes, offset: u64| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes.slice(start..start.saturating_add(want).min(bytes.len()))
        };
        match self {
            Self::Memory(bytes) => Ok(part(bytes, offset)),
            Self::File(open, from, ahead) => {
                let want_end = offset.saturating_add(want as u64).min(open.len());
                if offset < *from || want_end > *from + ahead.len() as u64 {
                    let left = usize::try_from(open.len().saturating_sub(offset)).unwrap_or(usize::MAX);
                    *ahead = read_at(open.inner(), offset, left.min(AHEAD.max(want))).await?;
                    *from = offset;
                }
                Ok(part(ahead, offset - *from))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(relative("/ipxe.efi").as_deref(), Some("ipxe.efi"));
        assert_eq!(relative("\\a\\b").as_deref(), Some("a/b"));
        for bad in ["", "/", "../x", "a/../../x", "..\\x", "a\0b"] {
            assert_eq!(relative(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_link_out_of_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("root/link")).unwrap();
        let source = Source::Directory(dir.path().join("root"));
        assert_eq!(source.open("link").await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(source.open("none").await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
