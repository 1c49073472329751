//! Writing an operating system's image to a disk while its digest is made.

use std::io::Write;

use sha2::{Digest, Sha256};

use crate::{
    device::{CHUNK, Device, is_zero},
    download::Download,
    error::{Error, Result, Words},
    qcow2,
    site::{Reporter, Site},
};

/// What is zeroed again when an image turns out to be wrong: nothing boots from it.
const HEAD: u64 = 1 << 20;
/// Parts that are looked at for being all zero.
const BLOCK: usize = 64 << 10;

/// What the step says of the image.
pub struct Image<'a> {
    /// Where it is.
    pub url: &'a str,
    /// Its digest in hex.
    pub sha256: &'a str,
    /// `raw`, `raw.gz` or `qcow2`.
    pub format: &'a str,
    /// Length of the file.
    pub size: u64,
}

/// Writes in order; zeros are left to the kernel, which knows cheaper ways.
struct Sequential<'a> {
    device: &'a Device,
    at: u64,
    held: Vec<u8>,
}

impl Sequential<'_> {
    fn flush_held(&mut self) -> Result<()> {
        put(self.device, self.at, &self.held)?;
        self.at += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }
}

impl Write for Sequential<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let part = Ord::min(bytes.len(), CHUNK - self.held.len());
        self.held.extend_from_slice(&bytes[..part]);
        if self.held.len() == CHUNK {
            self.flush_held().map_err(std::io::Error::other)?;
        }
        Ok(part)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes content; runs of zeros by the kernel's help.
fn put(device: &Device, at: u64, bytes: &[u8]) -> Result<()> {
    let mut from = 0;
    while from < bytes.len() {
        let end = |n: usize| Ord::min(n + BLOCK, bytes.len());
        let zero = is_zero(&bytes[from..end(from)]);
        let mut to = end(from);
        while to < bytes.len() && is_zero(&bytes[to..end(to)]) == zero {
            to = end(to);
        }
        // The kernel zeroes whole sectors only.
        if zero && (at + from as u64).is_multiple_of(4096) && (to - from).is_multiple_of(4096) {
            device.zero(at + from as u64, (to - from) as u64)?;
        } else {
            device.write(at + from as u64, &bytes[from..to])?;
        }
        from = to;
    }
    Ok(())
}

enum Sink<'a> {
    Raw(Sequential<'a>),
    Gzip(Box<flate2::write::MultiGzDecoder<Sequential<'a>>>),
    Qcow2(qcow2::Stream),
}

/// Writes the image. Whatever goes wrong, the disk does not look bootable afterwards.
pub fn write(site: &Site, image: &Image<'_>, device: &Device, report: &mut Reporter<'_>) -> Result<()> {
    let result = stream(site, image, device, report);
    // With a dead token nothing is touched any more: the machine may be somebody else's by now.
    if let Err(Error::Failed(_)) = &result {
        device.zero(0, Ord::min(HEAD, device.size))?;
        device.sync()?;
    }
    result
}

fn too_small(device: &Device, needed: u64) -> Error {
    Error::Failed(format!(
        "disk {} has {} MiB, the image needs {} MiB; choose a server type with a larger first disk",
        device.name,
        device.size >> 20,
        needed.div_ceil(1 << 20)
    ))
}

fn stream(site: &Site, image: &Image<'_>, device: &Device, report: &mut Reporter<'_>) -> Result<()> {
    let mut download = Download::new(site, image.url, image.size);
    let sequential = Sequential { device, at: 0, held: Vec::with_capacity(CHUNK) };
    let mut sink = match image.format {
        "raw" if image.size > device.size => return Err(too_small(device, image.size)),
        "raw" => Sink::Raw(sequential),
        "raw.gz" => Sink::Gzip(Box::new(flate2::write::MultiGzDecoder::new(sequential))),
        "qcow2" => {
            report.tell(0, image.size, "reading the image's tables")?;
            let layout = qcow2::layout(image.size, |at, length| download.part(at, length))?;
            if layout.size > device.size {
                return Err(too_small(device, layout.size));
            }
            for (at, length) in layout.gaps() {
                device.zero(at, length)?;
            }
            Sink::Qcow2(qcow2::Stream::new(layout))
        }
        other => return Err(format!("images of format {other:?} are not known: raw, raw.gz and qcow2 are").into()),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let total = image.size >> 20;
    while download.at() < image.size {
        let read = download.fill(&mut buffer)?;
        let bytes = &buffer[..read];
        hash.update(bytes);
        match &mut sink {
            Sink::Raw(out) => out.write_all(bytes).words(|| "raw image".into())?,
            Sink::Gzip(out) => out.write_all(bytes).words(|| "compressed image".into())?,
            Sink::Qcow2(out) => out.take(bytes, |at, content| put(device, at, content))?,
        }
        let at = download.at();
        report.tick(at, image.size, || format!("{}: writing the image, {} of {total} MiB", device.name, at >> 20))?;
    }
    match sink {
        Sink::Raw(mut out) => out.flush_held()?,
        Sink::Gzip(out) => out.finish().words(|| "compressed image".into())?.flush_held()?,
        Sink::Qcow2(_) => {}
    }
    let digest = hex::encode(hash.finalize());
    if !digest.eq_ignore_ascii_case(image.sha256) {
        return Err(format!(
            "the image's SHA-256 is {digest}, {} was expected; it was damaged on the way or at the site, and is not used",
            image.sha256
        )
        .into());
    }
    report.tell(image.size, image.size, &format!("{}: bringing the image to the medium", device.name))?;
    device.sync()
}
