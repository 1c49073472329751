//! `firmware.catalog_fetch`: an online catalog is fetched, read, and its images become ours.

use std::collections::{HashMap, HashSet};

use api::kinds::{configuration, firmware_catalog_fetch as catalogs, firmware_record};
use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::Id;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Database,
    entity::{firmware_binary, firmware_catalog, server},
    event::{self, NewEvent},
    list::Revisioned,
    time,
};

use crate::catalog::{self, Catalog, Fetched, Format, Image, Source};

/// Rows of one statement.
const CHUNK: usize = 100;

/// The function.
pub struct FirmwareCatalogFetch {
    db: Database,
}

impl FirmwareCatalogFetch {
    /// On a database.
    pub fn new(db: Database) -> Self {
        Self { db }
    }
}

#[derive(Deserialize)]
struct Payload {
    catalog_id: Id,
}

#[async_trait]
impl JobFunction for FirmwareCatalogFetch {
    fn name(&self) -> &'static str {
        catalogs::FUNCTION
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let Payload { catalog_id } = ctx.payload()?;
        let found = firmware_catalog::Entity::find_by_id(catalog_id).one(&self.db.read).await?;
        let found =
            found.ok_or_else(|| JobError::fatal(format!("firmware catalog {catalog_id} is no longer there")))?;
        let outcome = self.fetch(&ctx, &found).await;
        if let Err(error) = &outcome {
            let words = error.message.clone();
            catalogs::note(&self.db.write, &self.now(&found).await?, |sync| {
                sync["status"] = json!("failed");
                sync["error"] = json!(words);
                sync["failedTimestamp"] = json!(time::now());
            })
            .await?;
        }
        outcome
    }
}

impl FirmwareCatalogFetch {
    async fn setting(&self, name: &str) -> Result<Option<String>, JobError> {
        let value = configuration::value(&self.db.read, "http", name).await?;
        Ok(value.as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned))
    }

    async fn now(&self, found: &firmware_catalog::Model) -> Result<firmware_catalog::Model, JobError> {
        let now = firmware_catalog::Entity::find_by_id(found.id).one(&self.db.read).await?;
        now.ok_or_else(|| JobError::fatal(format!("firmware catalog {} was deleted meanwhile", found.name)))
    }

    async fn fetch(&self, ctx: &JobContext, found: &firmware_catalog::Model) -> Result<Outcome, JobError> {
        let url = found.vendor_url.clone().filter(|_| found.update_type == "online");
        let url = url
            .ok_or_else(|| JobError::fatal(format!("catalog {} is not fetched from anywhere any more", found.name)))?;
        let word = found.vendor_configuration["format"].as_str().unwrap_or(&found.vendor);
        let format = Format::parse(word).ok_or_else(|| {
            JobError::fatal(format!("how catalogs of {word} are written is not known; set vendorConfiguration.format"))
        })?;
        let source = Source {
            proxy: self.setting("proxyUrl").await?,
            no_proxy: self.setting("noProxy").await?,
            etag: found.sync.as_ref().and_then(|s| s["etag"].as_str()).map(str::to_owned),
            url: url.clone(),
        };
        ctx.progress(1, format!("Fetching {url}"));
        let told = |bytes: u64, total: Option<u64>| {
            let percent = total.filter(|t| *t > 0).map_or(10, |t| 1 + (bytes.saturating_mul(59) / t).min(59));
            ctx.progress(u8::try_from(percent).unwrap_or(60), format!("{} KiB fetched", bytes >> 10));
        };
        let fetched = catalog::fetch(&source, told)
            .await
            .map_err(|f| if f.again { JobError::retry(f.words) } else { JobError::fatal(f.words) })?;
        let document = match fetched {
            Fetched::Same => {
                catalogs::note(&self.db.write, &self.now(found).await?, |sync| {
                    sync["status"] = json!("fetched");
                    sync["error"] = Value::Null;
                    sync["checkedTimestamp"] = json!(time::now());
                })
                .await?;
                return Ok(Outcome::Done(json!({"changed": false})));
            }
            Fetched::New(document) => document,
        };
        ctx.progress(65, "Reading the catalog");
        let bytes = document.bytes;
        // Tens of megabytes of XML are not for a thread that serves others.
        let read = tokio::task::spawn_blocking(move || catalog::read(&bytes, format))
            .await
            .map_err(|e| JobError::retry(format!("reading the catalog was cut off: {e}")))?
            .map_err(|words| JobError::fatal(format!("{url}: {words}")))?;
        if read.images.is_empty() {
            return Err(JobError::fatal(format!(
                "{url} has no image that a BMC could take; what was known of the catalog stays{}",
                read.passed_over.first().map(|w| format!(" ({w})")).unwrap_or_default()
            )));
        }
        ctx.progress(75, format!("Taking over {} images", read.images.len()));
        let counts = self.take(found, &url, &read, document.etag).await?;
        ctx.progress(95, "Comparing servers with the catalog");
        let txn = self.db.begin().await?;
        let servers = server::Entity::find().filter(server::Column::Status.ne("decommissioned")).all(&txn).await?;
        firmware_record::refresh(&txn, &servers).await.map_err(|e| JobError::retry(e.message))?;
        txn.commit().await?;
        Ok(Outcome::Done(counts))
    }

    /// Makes the images of a catalog what its document says. Those that were entered by hand stay.
    async fn take(
        &self,
        found: &firmware_catalog::Model,
        url: &str,
        read: &Catalog,
        etag: Option<String>,
    ) -> Result<Value, JobError> {
        use firmware_binary::{ActiveModel, Column, Entity};
        let base = base_of(url, read.base.as_deref());
        let txn = self.db.begin().await?;
        let known: HashMap<String, firmware_binary::Model> = Entity::find()
            .filter(Column::CatalogId.eq(found.id))
            .all(&txn)
            .await?
            .into_iter()
            .filter(|b| b.vendor["fetched"] == true)
            .filter_map(|b| Some((b.external_id.clone()?, b)))
            .collect();
        let (mut seen, mut fresh, mut changed) = (HashSet::new(), Vec::new(), 0_usize);
        for image in &read.images {
            if !seen.insert(image.external_id.as_str()) {
                continue;
            }
            match known.get(&image.external_id) {
                None => {
                    let mut row = firmware_binary::new();
                    row.catalog_id = Set(found.id);
                    fill(&mut row, image, base.as_ref());
                    fresh.push(row);
                }
                Some(before) => {
                    let mut row = before.edit();
                    fill(&mut row, image, base.as_ref());
                    if differs(before, &row) {
                        row.update(&txn).await?;
                        changed += 1;
                    }
                }
            }
        }
        let gone: Vec<Id> = known.iter().filter(|(id, _)| !seen.contains(id.as_str())).map(|(_, b)| b.id).collect();
        for chunk in gone.chunks(CHUNK) {
            Entity::delete_many().filter(Column::Id.is_in(chunk.to_vec())).exec(&txn).await?;
        }
        let added = fresh.len();
        let mut fresh: Vec<ActiveModel> = fresh;
        while !fresh.is_empty() {
            let rest = fresh.split_off(fresh.len().min(CHUNK));
            Entity::insert_many(fresh).exec_without_returning(&txn).await?;
            fresh = rest;
        }
        let counts = json!({
            "changed": true, "images": seen.len(), "added": added, "updated": changed, "removed": gone.len(), "passedOver": read.odd,
            "passedOverReasons": read.passed_over,
        });
        let now = firmware_catalog::Entity::find_by_id(found.id).one(&txn).await?;
        let now =
            now.ok_or_else(|| JobError::fatal(format!("firmware catalog {} was deleted meanwhile", found.name)))?;
        let release = read.released.as_deref().and_then(time::parse).map(time::format);
        catalogs::note(&txn, &now, |sync| {
            sync["status"] = json!("fetched");
            sync["error"] = Value::Null;
            sync["etag"] = json!(etag);
            sync["checkedTimestamp"] = json!(time::now());
            sync["fetchedTimestamp"] = json!(time::now());
            sync["counts"] = counts.clone();
        })
        .await?;
        if let Some(release) = release {
            let row = firmware_catalog::ActiveModel {
                id: Set(found.id),
                vendor_release_timestamp: Set(Some(release)),
                ..Default::default()
            };
            row.update(&txn).await?;
        }
        if added + changed + gone.len() > 0 {
            let new = NewEvent {
                kind: "firmware_catalog.fetched".into(),
                severity: "info".into(),
                title: format!("Firmware catalog {} was fetched", found.name),
                message: format!("{added} images are new, {changed} changed, {} are gone.", gone.len()),
                object: Some(("firmware_catalog".into(), found.id)),
                context: counts.clone(),
                ..Default::default()
            };
            event::append(&txn, new).await?;
        }
        txn.commit().await?;
        Ok(counts)
    }
}

/// Where relative addresses of a catalog begin: where the document says, else beside the document. A document from a mirror says where its
/// maker is, which is not where the mirror is: what it says counts only for what lies at that host.
fn base_of(url: &str, said: Option<&str>) -> Option<url::Url> {
    let mut own = url::Url::parse(url).ok();
    // HPE's repositories have their index in a folder of its own.
    if let Some(up) = own.as_ref().filter(|u| u.path().contains("/fwrepodata/")).and_then(|u| u.join("../").ok()) {
        own = Some(up);
    }
    let said = said.and_then(|s| url::Url::parse(s).ok());
    match (own, said) {
        (Some(own), Some(said)) if said.host_str() == own.host_str() => Some(said),
        (Some(own), Some(_)) => own.join("/").ok(),
        (own, said) => own.or(said),
    }
}

fn fill(row: &mut firmware_binary::ActiveModel, image: &Image, base: Option<&url::Url>) {
    let address = match base {
        Some(base) => base.join(&image.url).map_or_else(|_| image.url.clone(), String::from),
        None => image.url.clone(),
    };
    let released = image.released.as_deref().and_then(time::parse).map(time::format);
    row.external_id = Set(Some(image.external_id.clone()));
    row.name = Set(image.name.chars().take(255).collect());
    row.package_id = Set(image.package_id.clone());
    row.package_version = Set(image.version.clone());
    row.reboot_required = Set(image.reboot);
    row.update_severity = Set(image.severity.to_owned());
    row.vendor_info_url = Set(image.info_url.clone());
    row.vendor_download_url = Set(address);
    row.vendor_release_timestamp = Set(released);
    row.supported_devices = Set(json!(image.devices));
    row.supported_systems = Set(json!(image.systems));
    row.vendor = Set(json!({"fetched": true, "released": image.released, "md5": image.md5}));
    row.sha256 = Set(image.sha256.clone());
    row.size = Set(image.size.and_then(|s| i64::try_from(s).ok()));
}

/// Whether anything but the revision is another.
fn differs(before: &firmware_binary::Model, row: &firmware_binary::ActiveModel) -> bool {
    let mut same = before.edit();
    same.revision = row.revision.clone();
    same.updated_at = row.updated_at.clone();
    same != *row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_where_the_catalog_is() {
        let at = |url, said, path: &str| base_of(url, said).and_then(|b| b.join(path).ok()).map(String::from);
        let dell = Some("https://downloads.dell.com/");
        let own = at("https://downloads.dell.com/catalog/Catalog.xml.gz", dell, "FOLDER1/a.EXE");
        assert_eq!(own.as_deref(), Some("https://downloads.dell.com/FOLDER1/a.EXE"));
        let mirror = at("http://mirror.example/catalog/Catalog.xml.gz", dell, "FOLDER1/a.EXE");
        assert_eq!(mirror.as_deref(), Some("http://mirror.example/FOLDER1/a.EXE"));
        let beside = at("http://mirror.example/repo/current/fwrepodata/fwrepo.json", None, "a.fwpkg");
        assert_eq!(beside.as_deref(), Some("http://mirror.example/repo/current/a.fwpkg"));
        let whole = at("http://mirror.example/x.json", None, "http://other.example/a.bin");
        assert_eq!(whole.as_deref(), Some("http://other.example/a.bin"));
    }
}
