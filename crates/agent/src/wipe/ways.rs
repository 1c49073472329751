//! Which ways of erasing a disk has, in the order in which they are tried.

use std::time::{Duration, Instant};

use model::cleaning::WipeMethod;

use super::{
    ENDS, How, Tell, ata,
    command::Commands,
    nvme,
    place::{Bus, Spot},
    scsi, slices,
};
use crate::{
    device::{CHUNK, Device},
    error::{Error, Result},
};

/// Disks up to this size are read back in full, larger ones in samples.
const READ_IN_FULL: u64 = 64 << 30;
/// Blocks read back of a larger disk.
const SAMPLES: u64 = 4096;
/// The slowest that a disk may be overwritten: one that is slower is broken.
const SLOWEST: u64 = 10_000_000;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// NVMe sanitize.
    NvmeSanitize(nvme::Action),
    /// NVMe format.
    NvmeFormat(nvme::Secure),
    /// ATA sanitize.
    AtaSanitize(ata::Action),
    /// ATA security erase, enhanced or not.
    AtaSecurity(bool),
    /// SCSI sanitize.
    ScsiSanitize(scsi::Action),
    /// The disk is told that nothing on it is needed, and must read as zeros then.
    Discard,
    /// Zeros are written over all of it.
    Overwrite,
}

use Way as W;

/// Ways of a kind of disk for a method, the best first.
pub fn of(spot: Spot, method: WipeMethod) -> Vec<Way> {
    let crypto: &[Way] = match spot.bus {
        Bus::Nvme => &[W::NvmeSanitize(nvme::Action::Crypto), W::NvmeFormat(nvme::Secure::Crypto)],
        Bus::Ata => &[W::AtaSanitize(ata::Action::Crypto)],
        Bus::Scsi => &[W::ScsiSanitize(scsi::Action::Crypto)],
        Bus::Plain => &[],
    };
    let own: &[Way] = match (spot.bus, spot.rotates) {
        (Bus::Nvme, _) => &[W::NvmeSanitize(nvme::Action::Block), W::NvmeFormat(nvme::Secure::UserData)],
        (Bus::Ata, false) => &[W::AtaSanitize(ata::Action::Block), W::AtaSecurity(true), W::AtaSecurity(false)],
        (Bus::Ata, true) => &[W::AtaSanitize(ata::Action::Overwrite), W::AtaSecurity(true), W::AtaSecurity(false)],
        (Bus::Scsi, false) => &[W::ScsiSanitize(scsi::Action::Block), W::ScsiSanitize(scsi::Action::Overwrite)],
        (Bus::Scsi, true) => &[W::ScsiSanitize(scsi::Action::Overwrite)],
        (Bus::Plain, _) => &[],
    };
    match method {
        WipeMethod::Auto => {
            let discard: &[Way] = if spot.rotates { &[] } else { &[W::Discard] };
            [crypto, own, discard, &[W::Overwrite]].concat()
        }
        WipeMethod::Discard => vec![W::Discard],
        WipeMethod::NvmeFormat if spot.bus == Bus::Nvme => vec![W::NvmeFormat(nvme::Secure::UserData)],
        WipeMethod::NvmeFormat => Vec::new(),
        WipeMethod::SecureErase => own.to_vec(),
        WipeMethod::CryptoErase => crypto.to_vec(),
        WipeMethod::Overwrite => vec![W::Overwrite],
    }
}

/// Goes one way. `alone`: no other namespace of an NVMe controller is to be kept. Returns how, and for what is held against zeros how that
/// was checked.
pub fn go(
    way: Way,
    device: &Device,
    disk: &dyn Commands,
    spot: Spot,
    alone: bool,
    tell: &Tell<'_>,
) -> Result<(How, Option<String>)> {
    let own = |how: Result<How>| how.map(|h| (h, None));
    match way {
        W::NvmeSanitize(action) => own(nvme::erase_by_sanitize(disk, action, alone, tell)),
        W::NvmeFormat(secure) => {
            let namespace =
                nvme::namespace_of(&device.name).ok_or_else(|| Error::from("it is no namespace of NVMe"))?;
            own(nvme::erase_by_format(disk, namespace, secure, alone, tell))
        }
        W::AtaSanitize(action) => own(ata::erase_by_sanitize(disk, action, device.size, tell)),
        W::AtaSecurity(enhanced) => own(ata::erase_by_security(disk, enhanced, tell)),
        W::ScsiSanitize(action) => own(scsi::erase_by_sanitize(disk, action, device.size, tell)),
        W::Discard => {
            tell(0, 1, "discarding")?;
            slices(device, |at, length| {
                device.discard(at, length).map_err(|e| Error::Failed(format!("it cannot discard: {e}")))
            })?;
            match zeros(device, tell)? {
                Ok(read) => Ok((How::clear("discarded"), Some(read))),
                Err(why) => Err(Error::Failed(format!("discarded, but {why}"))),
            }
        }
        W::Overwrite => {
            let (begun, size) = (Instant::now(), device.size);
            let limit = Duration::from_hours(1) + Duration::from_secs(size / SLOWEST);
            slices(device, |at, length| {
                // Half of the way is the reading.
                tell(at, size * 2, "overwriting with zeros")?;
                if begun.elapsed() > limit {
                    let hours = limit.as_secs() / 3600;
                    return Err(Error::Failed(format!("overwriting came only to {} GiB within {hours} h", at >> 30)));
                }
                // Where there is no medium of ours behind it, nothing is gained by writing each zero.
                if spot.bus == Bus::Plain { device.zero(at, length) } else { device.overwrite(at, length) }
            })?;
            match zeros(device, tell)? {
                Ok(read) => Ok((How::clear("overwritten with zeros"), Some(read))),
                Err(why) => Err(Error::Failed(format!("overwritten with zeros, but {why}; replace the disk"))),
            }
        }
    }
}

/// Reads back. The inner result says what was read, or where something is left.
fn zeros(device: &Device, tell: &Tell<'_>) -> Result<Result<String, String>> {
    device.sync()?;
    device.forget();
    let size = device.size;
    let left = |at: u64| Err(format!("byte {at} is not zero when read back"));
    if size <= READ_IN_FULL {
        let mut at = 0;
        while at < size {
            tell(size + at, size * 2, "reading back")?;
            let length = Ord::min(64 * CHUNK as u64, size - at);
            if let Some(at) = device.first_nonzero(at, length)? {
                return Ok(left(at));
            }
            at += length;
        }
        return Ok(Ok("read back in full, all zero".into()));
    }
    for (from, length) in [(0, ENDS), (size - ENDS, ENDS)] {
        if let Some(at) = device.first_nonzero(from, length)? {
            return Ok(left(at));
        }
    }
    let stride = (size / SAMPLES) & !4095;
    for n in 0..SAMPLES {
        tell(SAMPLES + n, SAMPLES * 2, "reading back samples")?;
        if let Some(at) = device.first_nonzero(n * stride, 64 << 10)? {
            return Ok(left(at));
        }
    }
    Ok(Ok(format!("read back in {SAMPLES} samples and at both ends, all zero")))
}

#[cfg(test)]
mod tests {
    use super::{super::place::Place, *};

    #[test]
    fn every_kind_of_disk_ends_with_an_overwriting_by_itself_only() {
        for bus in [Bus::Nvme, Bus::Ata, Bus::Scsi, Bus::Plain] {
            for rotates in [false, true] {
                let spot = Spot { bus, place: Place::Here, rotates };
                let auto = of(spot, WipeMethod::Auto);
                assert_eq!(auto.last(), Some(&Way::Overwrite));
                assert!(auto.contains(&Way::Discard) != rotates, "a disk that spins keeps what it discards");
                for method in [WipeMethod::SecureErase, WipeMethod::CryptoErase, WipeMethod::NvmeFormat] {
                    let ways = of(spot, method);
                    assert!(!ways.contains(&Way::Overwrite) && !ways.contains(&Way::Discard), "{method:?}");
                }
            }
        }
        let nvme = Spot { bus: Bus::Nvme, place: Place::Here, rotates: false };
        assert_eq!(of(nvme, WipeMethod::NvmeFormat), [Way::NvmeFormat(nvme::Secure::UserData)]);
        assert_eq!(of(Spot { bus: Bus::Ata, ..nvme }, WipeMethod::NvmeFormat), []);
    }
}
