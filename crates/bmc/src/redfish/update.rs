//! Firmware: what runs, and updates over `UpdateService` (DSP0266, "Update service"): multipart push, push, and pull by URL. Images are
//! streamed from the disk. An update is asked after by its task, or where a vendor makes none, by what it has instead.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use model::firmware::{Component, Inventory};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{Redfish, link, messages, path_of, reason};
use crate::{BmcError, FirmwareUpdate, Progress, UpdateImage, inventory::text};

/// Longest time for one image to reach the BMC.
const PUSH: Duration = Duration::from_mins(30);
/// Most parts that are read.
const PARTS: usize = 256;
/// Most tasks that are looked through for one that goes on.
const TASKS: usize = 64;
const BOUNDARY: &str = "steelyard-5f0c1b7d9e3a4c62";

/// What a part is, by the words that vendors use.
fn kind_of(id: &str, name: &str) -> &'static str {
    let words = format!("{id} {name}").to_lowercase();
    let has = |list: &[&str]| list.iter().any(|w| words.contains(w));
    // The order matters: "BMC backup", "NIC of the BIOS" and the like are rare, "iDRAC" has no "bmc" in it.
    if has(&["bios", "uefi", "system rom"]) {
        "bios"
    } else if has(&["bmc", "idrac", "ilo", "cimc", "xcc", "lifecycle controller"]) {
        "bmc"
    } else if has(&["gpu", "nvswitch", "hgx"]) {
        "gpu"
    } else if has(&["nic", "ethernet", "network", "connectx", "lom", "broadcom", "mellanox", "infiniband"]) {
        "nic"
    } else if has(&["raid", "storage", "disk", "drive", "ssd", "nvme", "perc", "hba", "smart array", "backplane"]) {
        "storage"
    } else if has(&["psu", "power supply", "powersupply"]) {
        "power_supply"
    } else {
        "other"
    }
}

fn running(word: &str) -> bool {
    matches!(word, "New" | "Starting" | "Running" | "Stopping" | "Service" | "Cancelling")
}

/// Whether an update by that way can be told to take effect then.
fn offers(service: &Value, way: &str, word: &str) -> bool {
    let field = match way {
        "multipart_push" => "/MultipartHttpPushUri@Redfish.OperationApplyTimeSupport/SupportedValues",
        _ => "/Actions/#UpdateService.SimpleUpdate/@Redfish.OperationApplyTimeSupport/SupportedValues",
    };
    let own = service.pointer(field);
    let supported = own.or_else(|| service.pointer("/@Redfish.OperationApplyTimeSupport/SupportedValues"));
    supported.and_then(Value::as_array).is_some_and(|s| s.iter().any(|v| v == word))
}

/// The body of a multipart push: its beginning and its end, the image goes between.
fn form(parameters: &Value, name: &str) -> (String, String) {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"UpdateParameters\"\r\nContent-Type: application/json\r\n\r\n{parameters}\r\n\
         --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"UpdateFile\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    );
    (head, format!("\r\n--{BOUNDARY}--\r\n"))
}

impl Redfish {
    async fn update_service(&self) -> Result<Value, BmcError> {
        let found = self.get("/redfish/v1/UpdateService").await?;
        let off = found.get("ServiceEnabled").and_then(Value::as_bool) == Some(false);
        if !found.is_object() || off {
            return Err(self.unsupported("updates of firmware; it has no update service, or it is switched off"));
        }
        Ok(found)
    }

    /// What is installed, with the path of each in its place.
    async fn installed(&self, service: &Value) -> Result<Vec<(Component, String)>, BmcError> {
        let quirks = self.service().await?.quirks;
        let Some(path) = link(&service["FirmwareInventory"]) else {
            return Err(self.unsupported("a list of its firmware"));
        };
        let mut all: Vec<(Component, String)> = Vec::new();
        for part in self.collection(path, PARTS).await? {
            let id = text(&part, "Id").unwrap_or_default();
            let absent = part.pointer("/Status/State").and_then(Value::as_str) == Some("Absent");
            if id.is_empty() || absent || !quirks.is_installed(&id) {
                continue;
            }
            let name = text(&part, "Name").unwrap_or_else(|| id.clone());
            let component = Component {
                kind: kind_of(&id, &name).to_owned(),
                id: quirks.component_id(&id, &part),
                name,
                version: text(&part, "Version").map(|v| quirks.version(&v)),
                updateable: part.get("Updateable").and_then(Value::as_bool).unwrap_or(false),
                software_id: text(&part, "SoftwareId"),
                manufacturer: text(&part, "Manufacturer"),
                released: text(&part, "ReleaseDate").filter(|d| !d.starts_with("00:00")),
            };
            // The same part twice: the first is the one in force.
            if all.iter().all(|(known, _)| known.id != component.id) {
                all.push((component, link(&part).unwrap_or_default().to_owned()));
            }
        }
        Ok(all)
    }

    /// Ways that this service offers, the best first.
    fn ways(service: &Value, order: &[&'static str]) -> Vec<&'static str> {
        let uri = |field: &str| service.get(field).and_then(Value::as_str).is_some_and(|u| !u.is_empty());
        let offered = |way: &&&str| match **way {
            "multipart_push" => uri("MultipartHttpPushUri"),
            "http_push" => uri("HttpPushUri"),
            _ => service.pointer("/Actions/#UpdateService.SimpleUpdate").is_some(),
        };
        order.iter().filter(offered).copied().collect()
    }

    /// One push of a file, with what comes before and after it. It cannot be repeated blindly: the BMC may have begun.
    async fn push(
        &self,
        path: &str,
        media_type: String,
        head: String,
        file: &Path,
        tail: String,
    ) -> Result<Value, BmcError> {
        let fail = |e: std::io::Error| BmcError::Unreachable {
            address: self.address(),
            cause: format!("the image {} cannot be read here: {e}", file.display()),
        };
        let opened = tokio::fs::File::open(file).await.map_err(fail)?;
        let size = opened.metadata().await.map_err(fail)?.len();
        let length = size + head.len() as u64 + tail.len() as u64;
        let one =
            |text: String| futures::stream::once(async move { Ok::<_, std::io::Error>(bytes::Bytes::from(text)) });
        let body = one(head).chain(ReaderStream::with_capacity(opened, 64 * 1024)).chain(one(tail));
        let request = self.http.request(Method::POST, self.url(path)?);
        let request = self
            .signed(request)
            .await?
            .header(header::CONTENT_TYPE, media_type)
            // Many BMCs want to know the length before they begin.
            .header(header::CONTENT_LENGTH, length)
            .timeout(PUSH)
            .body(reqwest::Body::wrap_stream(body));
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = answer.status();
        let location =
            answer.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).and_then(path_of).unwrap_or_default();
        let value: Value = serde_json::from_slice(&self.body(answer).await?).unwrap_or(Value::Null);
        match status {
            s if s.is_success() => Ok(json!({"location": location, "answer": value})),
            StatusCode::UNAUTHORIZED => Err(BmcError::Unauthorized(self.address())),
            s => Err(self.refused(&Method::POST, path, s, &value)),
        }
    }
}

/// By what an update is asked after: its task, wherever the answer names it.
fn task_of(location: Option<&str>, answer: &Value) -> String {
    let named = location.filter(|l| !l.is_empty()).map(str::to_owned);
    named
        .or_else(|| link(answer).filter(|l| l.contains("Task") || l.contains("Job")).map(str::to_owned))
        .or_else(|| answer.get("TaskMonitor").and_then(Value::as_str).and_then(path_of))
        .unwrap_or_default()
}

#[async_trait]
impl FirmwareUpdate for Redfish {
    async fn firmware(&self) -> Result<Inventory, BmcError> {
        let quirks = self.service().await?.quirks;
        let service = self.update_service().await?;
        let components = self.installed(&service).await?.into_iter().map(|(c, _)| c).collect();
        let ways = Self::ways(&service, quirks.update_ways());
        let best = ways.first().copied().unwrap_or_default();
        let holds_back = quirks.applies_on_reset() || quirks.holds_back() || offers(&service, best, "OnReset");
        Ok(Inventory { components, methods: ways.into_iter().map(str::to_owned).collect(), holds_back })
    }

    async fn start_update(&self, component: &str, image: &UpdateImage) -> Result<String, BmcError> {
        let quirks = self.service().await?.quirks;
        let service = self.update_service().await?;
        let (part, path) = self
            .installed(&service)
            .await?
            .into_iter()
            .find(|(c, _)| c.id == component)
            .ok_or_else(|| self.unsupported(format!("an update of {component}: it has no part of that name")))?;
        if !part.updateable {
            return Err(
                self.unsupported(format!("an update of {}: it says that this part is not updateable", part.name))
            );
        }
        let ways = Self::ways(&service, quirks.update_ways());
        let usable = |way: &&&str| if **way == "pull" { image.url.is_some() } else { image.file.is_some() };
        let way = ways.iter().find(usable).ok_or_else(|| {
            let offered = if ways.is_empty() { "none".to_owned() } else { ways.join(", ") };
            self.unsupported(format!("an update with this image (it takes images by: {offered})"))
        })?;
        let mut parameters = json!({});
        if let Some(target) = quirks.update_target(&part.kind, &path) {
            parameters["Targets"] = json!([target]);
        }
        // What restarts the server does so when we say, never by itself; the BMC restarts itself.
        if part.kind != "bmc" && (offers(&service, way, "OnReset") || quirks.applies_on_reset()) {
            parameters["@Redfish.OperationApplyTime"] = "OnReset".into();
        } else if part.kind == "bmc" && offers(&service, way, "Immediate") {
            parameters["@Redfish.OperationApplyTime"] = "Immediate".into();
        }
        quirks.update_parameters(&part.kind, &mut parameters);
        let field = |name: &str| service.get(name).and_then(Value::as_str).and_then(path_of).unwrap_or_default();
        let said = match (*way, &image.file, &image.url) {
            ("multipart_push", Some(file), _) => {
                let (head, tail) = form(&parameters, &image.name);
                let media = format!("multipart/form-data; boundary={BOUNDARY}");
                self.push(&field("MultipartHttpPushUri"), media, head, file, tail).await?
            }
            ("http_push", Some(file), _) => {
                if let (Some(targets), Some(_)) = (parameters.get("Targets"), service.get("HttpPushUriTargets")) {
                    let body = json!({"HttpPushUriTargets": targets});
                    let answer = self.patch("/redfish/v1/UpdateService", &body, &service).await?;
                    self.finish(answer, "PATCH /redfish/v1/UpdateService").await?;
                }
                let media = "application/octet-stream".to_owned();
                self.push(&field("HttpPushUri"), media, String::new(), file, String::new()).await?
            }
            (_, _, Some(url)) => {
                let action = &service["Actions"]["#UpdateService.SimpleUpdate"];
                let target = action
                    .get("target")
                    .and_then(Value::as_str)
                    .unwrap_or("/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate")
                    .to_owned();
                let scheme = url.split("://").next().unwrap_or("http").to_uppercase();
                let allowed = self.allowed(action, "TransferProtocol").await?;
                if !allowed.is_empty() && !allowed.contains(&scheme) {
                    return Err(self.unsupported(format!("images by {scheme} (it offers {})", allowed.join(", "))));
                }
                let mut body = json!({"ImageURI": url});
                if quirks.update_protocol() {
                    body["TransferProtocol"] = scheme.into();
                }
                if let (Some(all), Some(more)) = (body.as_object_mut(), parameters.as_object()) {
                    all.extend(more.clone());
                }
                let answer = self.ask(&Method::POST, &target, Some(&body), None).await?;
                json!({"location": answer.location, "answer": answer.value})
            }
            _ => return Err(self.unsupported("this image")),
        };
        if let Some(own) = quirks.own_update() {
            return Ok(own.to_owned());
        }
        Ok(task_of(said["location"].as_str(), &said["answer"]))
    }

    async fn running_update(&self) -> Result<Option<String>, BmcError> {
        let quirks = self.service().await?.quirks;
        if let Some(own) = quirks.own_update() {
            let now = self.update_progress(own).await?;
            return Ok(matches!(now, Progress::Running { .. }).then(|| own.to_owned()));
        }
        let tasks = match self.collection("/redfish/v1/TaskService/Tasks", TASKS).await {
            // Without tasks, none goes on that could be found.
            Err(BmcError::Refused { .. } | BmcError::Odd { .. } | BmcError::Unsupported { .. }) => return Ok(None),
            other => other?,
        };
        let about_firmware = |task: &Value| {
            let target = task.pointer("/Payload/TargetUri").and_then(Value::as_str).unwrap_or_default();
            let name = text(task, "Name").unwrap_or_default().to_lowercase();
            target.contains("/UpdateService") || name.contains("update") || name.contains("firmware")
        };
        let found = tasks.iter().find(|task| {
            let word = task.get("TaskState").and_then(Value::as_str).unwrap_or_default();
            running(word) && about_firmware(task) && !quirks.waits_for_restart(task)
        });
        Ok(found.and_then(link).map(str::to_owned))
    }

    async fn update_progress(&self, update: &str) -> Result<Progress, BmcError> {
        let quirks = self.service().await?.quirks;
        if update.is_empty() {
            return Ok(Progress::Forgotten);
        }
        let answer = match self.ask(&Method::GET, update, None, None).await {
            Err(BmcError::Unsupported { .. }) => return Ok(Progress::Forgotten),
            other => other?,
        };
        let task = answer.value;
        if let Some(own) = quirks.update_state(&task) {
            return Ok(own);
        }
        let said = || {
            let list = task.get("Messages").and_then(Value::as_array).into_iter().flatten();
            let texts: Vec<&str> = list
                .filter_map(|m| m.get("Message").and_then(Value::as_str))
                .filter(|t| !t.trim().is_empty())
                .collect();
            texts.last().map(|t| (*t).trim().to_owned())
        };
        let percent = task.get("PercentComplete").and_then(Value::as_u64).unwrap_or(0);
        let percent = u8::try_from(Ord::min(percent, 100)).unwrap_or(100);
        let word = task.get("TaskState").and_then(Value::as_str).unwrap_or_default();
        let bad = matches!(task.get("TaskStatus").and_then(Value::as_str), Some("Critical"));
        Ok(match word {
            _ if quirks.waits_for_restart(&task) => Progress::Staged,
            "Completed" if bad => Progress::Failed(said().unwrap_or_else(|| "no reason given".into())),
            "Completed" => Progress::Done,
            "Pending" | "Suspended" => Progress::Staged,
            "Exception" | "Killed" | "Cancelled" | "Interrupted" => {
                Progress::Failed(said().unwrap_or_else(|| format!("its task ended as {word}, no reason given")))
            }
            // A monitor answers 202 while it goes on, and then with what the request gave.
            "" if answer.status == StatusCode::ACCEPTED => {
                Progress::Running { percent, words: "the BMC is at it".into() }
            }
            "" if messages(&task).next().is_some() && super::refuses(&task) => Progress::Failed(reason(&task)),
            "" => Progress::Done,
            _ => Progress::Running { percent, words: said().unwrap_or_else(|| word.to_lowercase()) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_words() {
        for (id, name, kind) in [
            ("159__BIOS.Setup.1-1", "BIOS", "bios"),
            ("25227__iDRAC.Embedded.1-1", "Integrated Dell Remote Access Controller", "bmc"),
            ("1", "iLO 6", "bmc"),
            ("2", "System ROM", "bios"),
            ("BMC-Primary", "BMC", "bmc"),
            ("NIC.1", "Mellanox ConnectX-6", "nic"),
            ("5", "Smart Array P408i", "storage"),
            ("PowerSupply1", "PSU", "power_supply"),
            ("CPLD_MB_0", "CPLD", "other"),
        ] {
            assert_eq!(kind_of(id, name), kind, "{id} {name}");
        }
    }

    #[test]
    fn a_form_names_the_file_and_nothing_odd() {
        let (head, tail) = form(&json!({"Targets": []}), "a\"b/../c.EXE");
        assert!(head.contains("filename=\"ab..c.EXE\"") && head.ends_with("\r\n\r\n"));
        assert!(tail.starts_with("\r\n--") && tail.ends_with("--\r\n"));
    }
}
