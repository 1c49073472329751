//! Volumes of the RAID controller: `…/Systems/ID/Storage/1/Volumes`. Dell's makes a job of each change, which the next self test carries out;
//! the others change at once; NVIDIA's machines have no such controller.

use hyper::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Bmc, BmcState, body, collection, error::Fault, healthy, ok, read_only, update};
use crate::{
    hardware::{Disk, Model, Vendor},
    httpd::{Incomer, Reply},
    server::State,
    topology::ServerSpec,
};

/// Levels that the controllers make.
const LEVELS: [&str; 5] = ["RAID0", "RAID1", "RAID5", "RAID6", "RAID10"];

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Id in the collection.
    pub id: String,
    /// Name.
    pub name: String,
    /// `RAID1`.
    pub level: String,
    /// Numbers of its drives.
    pub drives: Vec<usize>,
    /// Bytes.
    pub bytes: u64,
    /// How often it was initialized.
    pub initialized: u32,
}

/// A change that waits for the next self test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new volume.
    Create(Volume),
    /// One goes.
    Delete(String),
    /// One is initialized.
    Initialize(String),
}

/// Whether such a machine has a RAID controller.
pub fn has(vendor: Vendor) -> bool {
    vendor != Vendor::Nvidia
}

/// Levels as the controller tells them; none where it makes no volumes.
pub fn levels(vendor: Vendor) -> &'static [&'static str] {
    if has(vendor) { &LEVELS } else { &[] }
}

/// All drives of a model, in their order.
pub fn drives(model: &Model) -> Vec<Disk> {
    model.disks.iter().flat_map(|disk| std::iter::repeat_n(*disk, disk.count)).collect()
}

fn apply(kept: &mut BmcState, change: Change) {
    match change {
        Change::Create(volume) => kept.volumes.push(volume),
        Change::Delete(id) => kept.volumes.retain(|v| v.id != id),
        Change::Initialize(id) => kept.volumes.iter_mut().filter(|v| v.id == id).for_each(|v| v.initialized += 1),
    }
}

/// What waited is done now. What was installed is on no disk any more.
pub fn self_test(state: &mut State) {
    let waits = std::mem::take(&mut state.kept.bmc.volumes_pending);
    if waits.is_empty() {
        return;
    }
    for change in waits {
        apply(&mut state.kept.bmc, change);
    }
    state.kept.disk = None;
    state.kept.bmc.log("OK", "The volumes of the RAID controller were changed");
}

/// Disks as an operating system sees them: volumes instead of their drives, and drives that are in none.
pub fn seen(spec: &ServerSpec, kept: &BmcState) -> Vec<Value> {
    let all = drives(spec.model);
    let (mut seen, mut sata) = (Vec::new(), 0_u8);
    let mut letter = || {
        sata += 1;
        format!("sd{}", char::from(b'a' + sata - 1))
    };
    for volume in &kept.volumes {
        seen.push(json!({"name": letter(), "serial": format!("{}-V{}", spec.serial, volume.id), "model": "RAID LOGICAL VOLUME",
            "size_gb": volume.bytes / 1_000_000_000, "media": "ssd"}));
    }
    for (n, disk) in all.iter().enumerate().filter(|(n, _)| kept.volumes.iter().all(|v| !v.drives.contains(n))) {
        let name = if disk.media == "nvme" {
            format!("nvme{n}n1")
        } else if kept.volumes.is_empty() {
            format!("sd{}", char::from(b'a' + n as u8))
        } else {
            letter()
        };
        seen.push(json!({"name": name, "serial": format!("{}-D{n}", spec.serial), "model": disk.model, "size_gb": disk.size_gb, "media": disk.media}));
    }
    seen
}

/// Routes below `…/Storage/1/Volumes`; `base` is that path.
pub fn route(bmc: &Bmc, request: &Incomer, base: &str, rest: &[&str]) -> Answer {
    let vendor = bmc.server.spec.model.vendor;
    let missing = || Fault::missing(&request.path);
    if !has(vendor) {
        return Err(missing());
    }
    let known = |id: &str| bmc.server.with(|s| s.kept.bmc.volumes.iter().find(|v| v.id == id).cloned());
    match (&request.method, rest) {
        (&Method::POST, []) => create(bmc, request),
        (&Method::DELETE, [id]) => {
            let volume = known(id).ok_or_else(missing)?;
            change(bmc, Change::Delete(volume.id))
        }
        (&Method::POST, [id, "Actions", "Volume.Initialize"]) => {
            let kind = body(request)?.get("InitializeType").and_then(Value::as_str).unwrap_or("Fast").to_owned();
            if !["Fast", "Slow"].contains(&kind.as_str()) {
                return Err(Fault::parameter("Volume.Initialize", "InitializeType", &kind));
            }
            let volume = known(id).ok_or_else(missing)?;
            change(bmc, Change::Initialize(volume.id))
        }
        (_, []) => {
            read_only(request)?;
            let ids: Vec<String> = bmc.server.with(|s| s.kept.bmc.volumes.iter().map(|v| v.id.clone()).collect());
            let mut reply = collection(base, "VolumeCollection", "Volumes", &ids)?;
            let mut view: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let times = if vendor == Vendor::Dell { json!(["OnReset"]) } else { json!(["Immediate"]) };
            view["@Redfish.OperationApplyTimeSupport"] =
                json!({"@odata.type": "#Settings.v1_3_5.OperationApplyTimeSupport", "SupportedValues": times});
            reply.body = view.to_string().into();
            Ok(reply)
        }
        (_, [id]) => {
            read_only(request)?;
            let volume = known(id).ok_or_else(missing)?;
            let storage = base.trim_end_matches("/Volumes");
            let links: Vec<Value> =
                volume.drives.iter().map(|n| json!({"@odata.id": format!("{storage}/Drives/Disk.{n}")})).collect();
            ok(&json!({
                "@odata.id": format!("{base}/{id}"), "@odata.type": "#Volume.v1_10_0.Volume", "Id": id, "Name": volume.name,
                "RAIDType": volume.level, "CapacityBytes": volume.bytes, "Status": healthy(),
                "Links": {"Drives@odata.count": links.len(), "Drives": links},
                "Actions": {"#Volume.Initialize": {"target": format!("{base}/{id}/Actions/Volume.Initialize"),
                    "InitializeType@Redfish.AllowableValues": ["Fast", "Slow"]}},
            }))
        }
        _ => Err(missing()),
    }
}

fn create(bmc: &Bmc, request: &Incomer) -> Answer {
    let vendor = bmc.server.spec.model.vendor;
    let body = body(request)?;
    let level = body.get("RAIDType").and_then(Value::as_str).ok_or_else(|| Fault::required("RAIDType"))?;
    if !LEVELS.contains(&level) {
        return Err(Fault::value("RAIDType", level));
    }
    if vendor == Vendor::Dell
        && body.get("@Redfish.OperationApplyTime").and_then(Value::as_str).is_some_and(|t| t != "OnReset")
    {
        return Err(Fault::value("@Redfish.OperationApplyTime", "Immediate"));
    }
    let drives = body.get("Links").and_then(|l| l.get("Drives")).and_then(Value::as_array);
    let drives = drives.ok_or_else(|| Fault::required("Links/Drives"))?;
    let all = self::drives(bmc.server.spec.model);
    let mut numbers = Vec::new();
    for drive in drives {
        let path = drive.get("@odata.id").and_then(Value::as_str).unwrap_or_default();
        let n = path.rsplit_once("/Disk.").and_then(|(_, n)| n.parse::<usize>().ok()).filter(|n| *n < all.len());
        numbers.push(n.ok_or_else(|| Fault::value("Links/Drives", path))?);
    }
    let (count, wanted) = (numbers.len(), |ok: bool| {
        if ok {
            Ok(())
        } else {
            Err(Fault::general(StatusCode::BAD_REQUEST, &format!("{level} takes another number of drives.")))
        }
    });
    let data = match level {
        "RAID0" => count,
        "RAID5" => count.saturating_sub(1),
        "RAID6" => count.saturating_sub(2),
        _ => count / 2,
    };
    wanted(match level {
        "RAID0" => count >= 1,
        "RAID1" => count == 2,
        "RAID5" => count >= 3,
        "RAID6" => count >= 4,
        _ => count >= 4 && count.is_multiple_of(2),
    })?;
    let smallest = numbers.iter().filter_map(|n| all.get(*n)).map(|d| d.size_gb).min().unwrap_or(0);
    let most = smallest * 1_000_000_000 * data as u64;
    let bytes = body.get("CapacityBytes").and_then(Value::as_u64).unwrap_or(most);
    if bytes > most || bytes == 0 {
        return Err(Fault::value("CapacityBytes", &bytes.to_string()));
    }
    let name = body.get("Name").and_then(Value::as_str).unwrap_or("Volume").to_owned();
    let busy = bmc.server.with(|s| {
        let kept = &s.kept.bmc;
        let gone: Vec<&String> = kept
            .volumes_pending
            .iter()
            .filter_map(|c| if let Change::Delete(id) = c { Some(id) } else { None })
            .collect();
        let waiting =
            kept.volumes_pending.iter().filter_map(|c| if let Change::Create(v) = c { Some(v) } else { None });
        let there = kept.volumes.iter().filter(|v| !gone.contains(&&v.id)).chain(waiting);
        there.flat_map(|v| v.drives.clone()).any(|n| numbers.contains(&n))
    });
    if busy {
        return Err(Fault::state(StatusCode::CONFLICT, "A drive of it is in another volume."));
    }
    let id = bmc.change(|s| {
        s.kept.bmc.next_volume += 1;
        s.kept.bmc.next_volume.to_string()
    });
    change(bmc, Change::Create(Volume { id, name, level: level.to_owned(), drives: numbers, bytes, initialized: 0 }))
}

/// At once, or as a job for the next start.
fn change(bmc: &Bmc, what: Change) -> Answer {
    if bmc.server.spec.model.vendor != Vendor::Dell {
        bmc.change(|s| {
            apply(&mut s.kept.bmc, what);
            s.kept.disk = None;
        });
        return bmc.done();
    }
    let (place, shown) = update::waiting(bmc, "RAID", "The change of volumes waits for the restart of the server.");
    bmc.change(|s| s.kept.bmc.volumes_pending.push(what));
    Ok(Reply::json(StatusCode::ACCEPTED, &shown).with(header::LOCATION, place))
}
