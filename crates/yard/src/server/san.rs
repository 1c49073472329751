//! A server's disk that is a volume on the network: what an installer writes there is what boots.

use super::{Disk, net::Port};
use crate::iscsi::{
    BLOCK,
    initiator::{Session, Volume},
};

/// What the first block begins with, once something was installed.
const MARK: &[u8; 8] = b"YARDDISK";
/// Longest description of what was installed.
const LONGEST: usize = 1 << 20;

/// A session over this port; frames pass only while the storage can be reached from it.
async fn open(port: &Port, volume: &Volume) -> Result<Session, String> {
    if !port.online() {
        return Err(format!("{}: no route to host", volume.portal.0));
    }
    Session::open(volume).await
}

/// Size of the volume in bytes.
pub async fn size(port: &Port, volume: &Volume) -> Result<u64, String> {
    let mut session = open(port, volume).await?;
    session.inquiry().await?;
    let size = session.capacity().await?;
    session.close().await;
    Ok(size)
}

/// What is installed on the volume.
pub async fn load(port: &Port, volume: &Volume) -> Result<Option<Disk>, String> {
    let mut session = open(port, volume).await?;
    let first = session.read(0, 1).await?;
    let length = first.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    let found = if first.starts_with(MARK) && length <= LONGEST {
        let all = session.read(0, (12 + length).div_ceil(BLOCK)).await?;
        serde_json::from_slice(all.get(12..12 + length).unwrap_or_default()).ok()
    } else {
        None
    };
    session.close().await;
    Ok(found)
}

/// Writes it; `None` erases.
pub async fn store(port: &Port, volume: &Volume, disk: Option<&Disk>) -> Result<(), String> {
    let mut session = open(port, volume).await?;
    let text = disk.map(serde_json::to_vec).transpose().map_err(|e| e.to_string())?;
    let bytes = match &text {
        Some(text) => {
            let length = u32::try_from(text.len()).unwrap_or(0).to_be_bytes();
            [&MARK[..], &length[..], &text[..]].concat()
        }
        None => vec![0; BLOCK],
    };
    session.write(0, &bytes).await?;
    session.close().await;
    Ok(())
}
