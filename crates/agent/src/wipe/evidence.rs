//! Proof that a disk's own erasure has done something: places are read beforehand, those that say nothing get a mark, and none of them may
//! read the same afterwards. Zeros are no proof that something was there, and not every erasure leaves zeros.

use sha2::{Digest, Sha256};

use crate::{
    device::{Device, is_zero},
    error::Result,
};

/// Places that are looked at.
const PLACES: u64 = 512;
/// Bytes of a place.
const BLOCK: usize = 4096;

/// What stood at some places.
pub struct Evidence {
    before: Vec<(u64, [u8; 32])>,
    marks: usize,
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A block that no disk makes by itself.
fn mark(at: u64, seed: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut link = digest(&[seed, &at.to_be_bytes()].concat());
    while block.len() < BLOCK {
        block.extend_from_slice(&link);
        link = digest(&link);
    }
    block
}

fn places(size: u64) -> impl Iterator<Item = u64> {
    let blocks = size / BLOCK as u64;
    let count = Ord::min(PLACES, blocks);
    (0..count).map(move |n| if count < 2 { 0 } else { n * (blocks - 1) / (count - 1) * BLOCK as u64 })
}

impl Evidence {
    /// Reads and marks. Places that cannot be read or written are left out: a locked disk has none.
    pub fn take(device: &Device) -> Self {
        let mut seed = [0; 16];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut seed));
        if read.is_err() {
            seed[..8].copy_from_slice(&std::process::id().to_be_bytes().repeat(2));
        }
        let mut found = Self { before: Vec::new(), marks: 0 };
        let mut block = vec![0; BLOCK];
        let mut bad = 0;
        for at in places(device.size) {
            // A disk that refuses a few in a row refuses all of them, each after seconds.
            if bad >= 4 && found.before.is_empty() {
                break;
            }
            if device.read(at, &mut block).is_err() {
                bad += 1;
                continue;
            }
            if block.iter().all(|b| *b == block[0]) {
                let mark = mark(at, &seed);
                if device.write(at, &mark).is_err() {
                    bad += 1;
                    continue;
                }
                found.marks += 1;
                found.before.push((at, digest(&mark)));
            } else {
                found.before.push((at, digest(&block)));
            }
        }
        let _ = device.sync();
        device.forget();
        found
    }

    /// Holds what stands there now against it. The inner error says where something is left.
    pub fn check(&self, device: &Device) -> Result<Result<String, String>> {
        device.forget();
        let mut block = vec![0; BLOCK];
        let (mut read, mut zero) = (0_usize, 0_usize);
        let mut failed = None;
        for (at, before) in &self.before {
            match device.read(*at, &mut block) {
                Err(why) => failed = Some(why.to_string()),
                Ok(()) => {
                    read += 1;
                    if is_zero(&block) {
                        zero += 1;
                    }
                    if digest(&block) == *before {
                        return Ok(Err(format!("what stood at byte {at} beforehand is still there")));
                    }
                }
            }
        }
        if self.before.is_empty() {
            // Locked until now: it must at least be readable.
            return Ok(match device.read(0, &mut block) {
                Ok(()) => Ok("nothing of it could be read beforehand; it reads now".into()),
                Err(why) => Err(format!("it cannot be read: {why}")),
            });
        }
        if read * 10 < self.before.len() * 9 {
            return Ok(Err(format!(
                "{} of {} places cannot be read: {}",
                self.before.len() - read,
                self.before.len(),
                failed.unwrap_or_default()
            )));
        }
        let rest = if zero == read { "all are zero".to_owned() } else { format!("{zero} of them are zero") };
        Ok(Ok(format!(
            "{read} places read otherwise than beforehand, {} of which were marked for that; {rest}",
            self.marks
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    fn disk(folder: &tempfile::TempDir, bytes: &[u8]) -> Device {
        let path = folder.path().join("sda");
        std::fs::write(&path, bytes).unwrap();
        Device::open("sda", &path).unwrap()
    }

    #[test]
    fn what_is_left_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let old: Vec<u8> = (0..1 << 20).map(|n: u32| if n < 1 << 19 { (n / 7) as u8 } else { 0 }).collect();
        let device = disk(&folder, &old);
        let evidence = Evidence::take(&device);
        assert!(evidence.marks > 100 && evidence.before.len() == 256);
        assert!(evidence.check(&device).unwrap().unwrap_err().contains("still there"), "nothing was done");
        device.zero(0, 1 << 20).unwrap();
        assert!(evidence.check(&device).unwrap().unwrap().contains("all are zero"));
        // An erasure that leaves noise is one too.
        device.write(0, &mark(9, b"noise")).unwrap();
        assert!(evidence.check(&device).unwrap().unwrap().contains("255 of them are zero"));
        // The marks of a place that was left out are found.
        let again = Evidence::take(&device);
        device.zero(0, 1 << 19).unwrap();
        assert!(again.check(&device).unwrap().is_err());
    }

    #[test]
    fn places_lie_over_the_whole_disk() {
        let all: Vec<u64> = places(1 << 40).collect();
        assert_eq!((all.len(), all[0], *all.last().unwrap()), (512, 0, (1 << 40) - 4096));
        assert!(all.iter().all(|at| at % 4096 == 0));
        assert_eq!(places(4096).collect::<Vec<_>>(), [0]);
        assert_eq!(places(100).count(), 0);
    }
}
