//! Firmware of a machine's parts: `/redfish/v1/UpdateService` and `/redfish/v1/TaskService`, as each vendor has them.
//!
//! An image is a text file whose first line says what it is, `{"component": "BIOS", "version": "2.20.0"}`; what follows is not looked at.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Answer, Bmc, body, collection, error::Fault, healthy, ok, read_only};
use crate::{
    fault::{Action, Face},
    hardware::Vendor,
    httpd::{Incomer, Reply},
    server::{Server, State},
    world::World,
};

const SERVICE: &str = "/redfish/v1/UpdateService";
const INVENTORY: &str = "/redfish/v1/UpdateService/FirmwareInventory";
const TASKS: &str = "/redfish/v1/TaskService/Tasks";
/// Tasks that are kept.
const KEPT: usize = 20;
/// Steps in which progress is told.
const STEPS: u32 = 10;

/// An update as the BMC tells of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Id in the collection.
    pub id: String,
    /// Part, by its plain name.
    pub part: String,
    /// Version of the image.
    pub version: String,
    /// 0 to 100.
    pub percent: u32,
    /// `Running`, `Staged`, `Completed` or `Exception`.
    pub state: String,
    /// Last message.
    pub message: String,
}

/// A part: plain name, id in the inventory, name for people, version.
struct Part {
    plain: &'static str,
    id: String,
    name: &'static str,
    version: String,
}

fn parts(bmc: &Bmc) -> Vec<Part> {
    let model = bmc.server.spec.model;
    let mut list = vec![
        ("BMC", model.vendor.manager_model(), model.vendor.manager_firmware()),
        ("BIOS", "BIOS", model.bios),
        ("NIC.1", model.nic_model, "22.36.1010"),
    ];
    if let Some(gpu) = model.gpu {
        list.push(("GPU.1", gpu.model, "96.00.89.00.01"));
    }
    let written = bmc.server.with(|state| state.kept.bmc.firmware.clone());
    list.into_iter()
        .map(|(plain, name, factory)| {
            let version = written.get(plain).cloned().unwrap_or_else(|| factory.to_owned());
            let id = match (model.vendor, plain) {
                (Vendor::Dell, "BMC") => format!("Installed-25227-{version}__iDRAC.Embedded.1-1"),
                (Vendor::Dell, "BIOS") => format!("Installed-159-{version}__BIOS.Setup.1-1"),
                (Vendor::Dell, other) => format!("Installed-0-{version}__{other}"),
                _ => plain.to_owned(),
            };
            Part { plain, id, name, version }
        })
        .collect()
}

/// Version of a part, as it runs.
pub fn version(bmc: &Bmc, plain: &str) -> String {
    parts(bmc).into_iter().find(|part| part.plain == plain).map(|part| part.version).unwrap_or_default()
}

/// What the firmware's self test puts in force: images and settings that waited for it.
pub fn self_test(state: &mut State) {
    let kept = &mut state.kept.bmc;
    for (part, version) in std::mem::take(&mut kept.staged) {
        kept.log("OK", format!("Firmware of {part} is now {version}"));
        kept.firmware.insert(part, version);
    }
    for task in kept.tasks.iter_mut().filter(|task| task.state == "Staged") {
        "Completed".clone_into(&mut task.state);
        "The firmware was updated.".clone_into(&mut task.message);
    }
    super::bios::self_test(state);
    let kept = &mut state.kept.bmc;
    let pending = std::mem::take(&mut kept.bios_pending);
    kept.bios.extend(pending);
    super::raid::self_test(state);
}

/// The BMC restarts: what it only had in memory is gone.
pub fn restarted(state: &mut State, vendor: Vendor) {
    state.kept.bmc.tasks.retain(|task| task.state != "Running" && vendor == Vendor::Dell);
}

/// Routes below `/redfish/v1/UpdateService`.
pub fn route(bmc: &Bmc, request: &Incomer, rest: &[&str]) -> Answer {
    let vendor = bmc.server.spec.model.vendor;
    match (&request.method, rest) {
        (&Method::POST, ["Actions", "UpdateService.SimpleUpdate"]) if pulls(vendor) => return pull(bmc, request),
        (&Method::POST, ["MultipartUpload"]) if vendor == Vendor::Dell => return multipart(bmc, request),
        (&Method::POST, ["upload"]) if matches!(vendor, Vendor::Supermicro | Vendor::Nvidia) => {
            return multipart(bmc, request);
        }
        _ => read_only(request)?,
    }
    match rest {
        [] => ok(&service(bmc)),
        ["FirmwareInventory"] => {
            let mut ids: Vec<String> = parts(bmc).into_iter().map(|part| part.id).collect();
            match vendor {
                Vendor::Dell => ids.push("Previous-159-1.0.0__BIOS.Setup.1-1".into()),
                Vendor::Supermicro => ids.push("Backup_BIOS".into()),
                _ => {}
            }
            collection(INVENTORY, "SoftwareInventoryCollection", "Firmware Inventory", &ids)
        }
        ["FirmwareInventory", id] => {
            let spare = |name: &str| Part { plain: "", id: (*id).to_owned(), name: "BIOS", version: name.to_owned() };
            let part = match *id {
                "Previous-159-1.0.0__BIOS.Setup.1-1" if vendor == Vendor::Dell => spare("1.0.0"),
                "Backup_BIOS" if vendor == Vendor::Supermicro => spare("1.0"),
                _ => parts(bmc).into_iter().find(|p| p.id == *id).ok_or_else(|| Fault::missing(&request.path))?,
            };
            ok(&json!({"@odata.id": format!("{INVENTORY}/{id}"), "Id": id, "Name": part.name, "Version": part.version,
                "@odata.type": "#SoftwareInventory.v1_4_0.SoftwareInventory", "Updateable": true, "Status": healthy()}))
        }
        _ => Err(Fault::missing(&request.path)),
    }
}

fn pulls(vendor: Vendor) -> bool {
    matches!(vendor, Vendor::Hpe | Vendor::Dell | Vendor::Nvidia)
}

fn service(bmc: &Bmc) -> Value {
    let vendor = bmc.server.spec.model.vendor;
    let mut view = json!({
        "@odata.id": SERVICE, "@odata.type": "#UpdateService.v1_11_0.UpdateService", "Id": "UpdateService",
        "Name": "Update Service", "ServiceEnabled": true, "Status": healthy(), "FirmwareInventory": {"@odata.id": INVENTORY},
    });
    match vendor {
        Vendor::Dell => view["MultipartHttpPushUri"] = json!(format!("{SERVICE}/MultipartUpload")),
        Vendor::Supermicro | Vendor::Nvidia => view["MultipartHttpPushUri"] = json!(format!("{SERVICE}/upload")),
        Vendor::Hpe => {}
    }
    if pulls(vendor) {
        view["Actions"] =
            json!({"#UpdateService.SimpleUpdate": {"target": format!("{SERVICE}/Actions/UpdateService.SimpleUpdate")}});
        if vendor != Vendor::Hpe {
            view["Actions"]["#UpdateService.SimpleUpdate"]["TransferProtocol@Redfish.AllowableValues"] =
                json!(["HTTP", "HTTPS"]);
        }
    }
    if vendor == Vendor::Hpe {
        let last = bmc.server.with(|state| state.kept.bmc.tasks.last().cloned());
        let (word, percent, said) = match last {
            None => ("Idle", 0, String::new()),
            Some(task) => match task.state.as_str() {
                "Running" if task.percent < 30 => ("Uploading", task.percent, String::new()),
                "Running" => ("Updating", task.percent, String::new()),
                "Exception" => ("Error", task.percent, task.message),
                _ => ("Complete", 100, String::new()),
            },
        };
        view["Oem"] = json!({"Hpe": {"State": word, "FlashProgressPercent": percent, "Result": {"MessageId": said}}});
    }
    view
}

/// Routes below `/redfish/v1/TaskService`.
pub fn tasks(bmc: &Bmc, request: &Incomer, rest: &[&str]) -> Answer {
    read_only(request)?;
    let vendor = bmc.server.spec.model.vendor;
    if vendor == Vendor::Hpe {
        return Err(Fault::missing(&request.path));
    }
    let known = bmc.server.with(|state| state.kept.bmc.tasks.clone());
    match rest {
        [] => ok(
            &json!({"@odata.id": "/redfish/v1/TaskService", "@odata.type": "#TaskService.v1_2_0.TaskService", "Id": "TaskService",
            "Name": "Task Service", "ServiceEnabled": true, "Status": healthy(), "Tasks": {"@odata.id": TASKS}}),
        ),
        ["Tasks"] => {
            let ids: Vec<String> = known.into_iter().map(|task| task.id).collect();
            collection(TASKS, "TaskCollection", "Task Collection", &ids)
        }
        ["Tasks", id] => {
            let task = known.iter().find(|task| task.id == *id).ok_or_else(|| Fault::missing(&request.path))?;
            ok(&view(task, vendor))
        }
        _ => Err(Fault::missing(&request.path)),
    }
}

fn view(task: &Task, vendor: Vendor) -> Value {
    let state = match task.state.as_str() {
        // A job that waits for the restart looks to a client of the standard as if it were about to start.
        "Staged" if vendor == Vendor::Dell => "Starting",
        "Staged" => "Pending",
        other => other,
    };
    let mut view = json!({
        "@odata.id": format!("{TASKS}/{}", task.id), "@odata.type": "#Task.v1_7_0.Task", "Id": task.id,
        "Name": format!("Firmware Update: {}", task.part), "TaskState": state, "PercentComplete": task.percent,
        "TaskStatus": if task.state == "Exception" { "Critical" } else { "OK" }, "Messages": [{"Message": task.message}],
    });
    if vendor == Vendor::Dell {
        let word = match task.state.as_str() {
            "Staged" => "Scheduled",
            "Exception" => "Failed",
            other => other,
        };
        view["Oem"] = json!({"Dell": {"JobState": word, "JobType": "FirmwareUpdate"}});
    }
    view
}

/// `SimpleUpdate`: the BMC fetches the image itself.
fn pull(bmc: &Bmc, request: &Incomer) -> Answer {
    let body = body(request)?;
    let uri = body.get("ImageURI").ok_or_else(|| Fault::required("ImageURI"))?;
    let uri = uri.as_str().ok_or_else(|| Fault::kind("ImageURI"))?.to_owned();
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        return Err(Fault::value("ImageURI", &uri));
    }
    if bmc.server.spec.model.vendor == Vendor::Hpe
        && let Some(other) = body.keys().find(|key| *key != "ImageURI")
    {
        return Err(Fault::unknown(other));
    }
    begin(bmc, Source::Uri(uri), body.get("Targets").cloned())
}

/// The two parts of a form: parameters and image.
fn multipart(bmc: &Bmc, request: &Incomer) -> Answer {
    let kind = request.header("content-type").unwrap_or_default().to_owned();
    let boundary = kind.split("boundary=").nth(1).map(|b| b.trim_matches('"').to_owned());
    let Some(boundary) = boundary.filter(|_| kind.starts_with("multipart/form-data")) else {
        return Err(Fault::general(StatusCode::UNSUPPORTED_MEDIA_TYPE, "A multipart form is expected."));
    };
    let (mut parameters, mut image) = (None, None);
    for piece in split(&request.body, format!("--{boundary}").as_bytes()) {
        let Some(end) = find(piece, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&piece[..end]).to_lowercase();
        let content = piece[end + 4..].strip_suffix(b"\r\n").unwrap_or(&piece[end + 4..]);
        if head.contains("name=\"updateparameters\"") {
            parameters = serde_json::from_slice::<Value>(content).ok();
        } else if head.contains("name=\"updatefile\"") {
            image = Some(content.to_vec());
        }
    }
    let parameters = parameters.ok_or_else(|| Fault::required("UpdateParameters"))?;
    let image = image.ok_or_else(|| Fault::required("UpdateFile"))?;
    let targets = parameters.get("Targets").cloned();
    begin(bmc, Source::Bytes(image), targets)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn split<'a>(text: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some(at) = find(rest, by) {
        all.push(&rest[..at]);
        rest = &rest[at + by.len()..];
    }
    all
}

enum Source {
    Uri(String),
    Bytes(Vec<u8>),
}

/// Makes the task and lets it run.
fn begin(bmc: &Bmc, source: Source, targets: Option<Value>) -> Answer {
    let vendor = bmc.server.spec.model.vendor;
    let id = bmc.change(|state| {
        let kept = &mut state.kept.bmc;
        if kept.tasks.iter().any(|task| task.state == "Running") {
            return None;
        }
        kept.next_task += 1;
        let id =
            if vendor == Vendor::Dell { format!("JID_{:012}", kept.next_task) } else { kept.next_task.to_string() };
        if kept.tasks.len() >= KEPT {
            kept.tasks.remove(0);
        }
        kept.tasks.push(Task {
            id: id.clone(),
            part: "image".into(),
            version: String::new(),
            percent: 0,
            state: "Running".into(),
            message: "The image is received.".into(),
        });
        Some(id)
    });
    let Some(id) = id else {
        return Err(Fault::state(StatusCode::BAD_REQUEST, "Another firmware update is in progress."));
    };
    let (world, server, name) = (bmc.world.clone(), bmc.server.clone(), id.clone());
    bmc.world.tasks.spawn(async move {
        tokio::select! {
            () = world.shutdown.cancelled() => {}
            () = write(&world, &server, &name, source, targets) => {}
        }
    });
    if vendor == Vendor::Hpe {
        return bmc.done();
    }
    let place = format!("{TASKS}/{id}");
    let task = bmc.server.with(|state| state.kept.bmc.tasks.iter().find(|task| task.id == id).cloned());
    let shown = task.map(|task| view(&task, vendor)).unwrap_or_default();
    Ok(Reply::json(StatusCode::ACCEPTED, &shown).with(header::LOCATION, place))
}

/// A job that waits for the server's restart: where it is, and how it looks.
pub fn waiting(bmc: &Bmc, part: &str, message: &str) -> (String, Value) {
    let vendor = bmc.server.spec.model.vendor;
    let task = bmc.change(|state| {
        let kept = &mut state.kept.bmc;
        kept.next_task += 1;
        let id =
            if vendor == Vendor::Dell { format!("JID_{:012}", kept.next_task) } else { kept.next_task.to_string() };
        if kept.tasks.len() >= KEPT {
            kept.tasks.remove(0);
        }
        let task = Task {
            id,
            part: part.to_owned(),
            version: String::new(),
            percent: 0,
            state: "Staged".into(),
            message: message.to_owned(),
        };
        kept.tasks.push(task.clone());
        task
    });
    (format!("{TASKS}/{}", task.id), view(&task, vendor))
}

/// Changes a task; `false` when it is not there any more.
fn set(world: &World, server: &Server, id: &str, change: impl FnOnce(&mut Task)) -> bool {
    let there = server.with(|state| {
        let task = state.kept.bmc.tasks.iter_mut().find(|task| task.id == id && task.state == "Running")?;
        change(task);
        Some(())
    });
    world.changed();
    there.is_some()
}

fn fail(world: &World, server: &Server, id: &str, why: String) {
    set(world, server, id, |task| {
        "Exception".clone_into(&mut task.state);
        task.message = why;
    });
}

/// What an image is for, by its first line.
fn read_image(bytes: &[u8]) -> Option<(String, String)> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let head: Value = serde_json::from_slice(line).ok()?;
    Some((head.get("component")?.as_str()?.to_owned(), head.get("version")?.as_str()?.to_owned()))
}

async fn write(world: &Arc<World>, server: &Arc<Server>, id: &str, source: Source, targets: Option<Value>) {
    let bmc = Bmc { world: world.clone(), server: server.clone() };
    let bytes = match source {
        Source::Bytes(bytes) => bytes,
        Source::Uri(uri) => {
            let fetched = async { world.http.get(&uri).send().await?.error_for_status()?.bytes().await };
            match tokio::time::timeout(Duration::from_mins(1), fetched).await {
                Ok(Ok(bytes)) => bytes.to_vec(),
                _ => return fail(world, server, id, format!("The image at {uri} cannot be fetched.")),
            }
        }
    };
    let Some((part, version)) = read_image(&bytes) else {
        return fail(world, server, id, "The image is not recognised, or its signature is wrong.".into());
    };
    let Some(known) = parts(&bmc).into_iter().find(|known| known.plain == part) else {
        return fail(world, server, id, format!("The image is for {part}, which this server does not have."));
    };
    let aims = targets.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = match part.as_str() {
        "BIOS" => vec!["/Systems/1/Bios".to_owned(), known.id.clone()],
        "BMC" => vec!["/Managers/1".to_owned(), known.id.clone()],
        _ => vec![known.id.clone()],
    };
    if !aims.is_empty()
        && !aims.iter().filter_map(Value::as_str).any(|aim| names.iter().any(|name| aim.ends_with(name.as_str())))
    {
        return fail(world, server, id, "The image does not fit the target.".into());
    }
    let told = set(world, server, id, |task| {
        task.part.clone_from(&part);
        task.version.clone_from(&version);
        "The image is verified.".clone_into(&mut task.message);
    });
    if !told {
        return;
    }
    let restart =
        world.strike_server(server, Face::Redfish, "UPDATE").iter().any(|action| matches!(action, Action::RestartBmc));
    for step in 1..STEPS {
        tokio::time::sleep(Duration::from_secs_f64(world.config.firmware_seconds) / STEPS).await;
        if restart && step == STEPS / 2 {
            return restart_bmc(&bmc, "The management controller restarted in the middle of an update");
        }
        let going = set(world, server, id, |task| {
            task.percent = step * 100 / STEPS;
            "The image is written.".clone_into(&mut task.message);
        });
        // The BMC was restarted meanwhile: nothing was written.
        if !going {
            return;
        }
    }
    let to_bmc = part == "BMC";
    set(world, server, id, |task| {
        task.percent = 100;
        task.state = String::from(if to_bmc { "Completed" } else { "Staged" });
        let told = if to_bmc { "The firmware was updated." } else { "The image waits for the restart of the server." };
        task.message = String::from(told);
    });
    server.with(|state| {
        let kept = &mut state.kept.bmc;
        if to_bmc {
            kept.firmware.insert(part.clone(), version.clone());
        } else {
            kept.staged.insert(part.clone(), version.clone());
        }
    });
    world.changed();
    world.events.push(&server.spec.serial, "firmware", format!("{part} {version} written"));
    if to_bmc {
        restart_bmc(&bmc, "The management controller restarted after its update");
    }
}

/// The BMC goes away for a while, and forgets its sessions.
pub fn restart_bmc(bmc: &Bmc, why: &str) {
    let pause = Duration::from_secs_f64(bmc.world.config.bmc_reset_seconds);
    let vendor = bmc.server.spec.model.vendor;
    bmc.change(|state| {
        state.sessions.clear();
        state.kept.bmc.resets += 1;
        state.bmc_down_until = Some(Instant::now() + pause);
        restarted(state, vendor);
        state.sel("OK", why);
    });
    bmc.world.events.push(&bmc.server.spec.serial, "power", "BMC reset");
}
