//! OS templates as plans need them: many at once. How a template's files make an installation is in `docs/src/reference/os-templates.md`.

use std::collections::BTreeMap;

use model::{
    Id,
    template::{Erase, ImageRef, InstallMethod, NamedImage, OsInstall, ReadySignal, TextFile},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
};
use store::entity::{os_template, template_asset};

use super::design::Template;

/// Texts that cloud-init reads.
const TEXTS: [&str; 2] = ["user-data", "meta-data"];
/// Text of an installer's kernel command line.
const ARGUMENTS: &str = "kernel-arguments";
/// Text of the URL that answers when the new system is ready.
const READY_URL: &str = "ready-url";
/// Usages of an asset that make it the disk image, the best first.
const IMAGE: [&str; 3] = ["source_image", "image", "build_source_image"];
/// Longest text: it travels in each order.
const LONGEST: i64 = 256 * 1024;
/// Where SSH listens when the template says nothing.
const SSH_PORT: u16 = 22;
/// Tags that say which disks are erased before an image is written.
const ERASE: [(&str, Erase); 2] = [("erase-all-drives", Erase::All), ("keep-data-drives", Erase::First)];
/// Tag of a template whose systems do not start from a volume on the network.
const LOCAL_DISK_ONLY: &str = "local-disk-only";

/// An asset without its content: an image's may be large.
#[derive(FromQueryResult)]
struct Asset {
    id: i64,
    os_template_id: i64,
    usage: String,
    name: String,
    mime_type: String,
    path: Option<String>,
    url: Option<String>,
    sha256: Option<String>,
    size: i64,
    format: String,
    is_template: bool,
}

/// The templates of these ids, in three queries.
pub async fn load<C: ConnectionTrait>(db: &C, ids: &[Id]) -> Result<BTreeMap<Id, Template>, DbErr> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = os_template::Entity::find().filter(os_template::Column::Id.is_in(ids.to_vec())).all(db).await?;
    let assets = template_asset::Entity::find()
        .select_only()
        .columns([
            template_asset::Column::Id,
            template_asset::Column::OsTemplateId,
            template_asset::Column::Usage,
            template_asset::Column::Name,
            template_asset::Column::MimeType,
            template_asset::Column::Path,
            template_asset::Column::Url,
            template_asset::Column::Sha256,
            template_asset::Column::Size,
            template_asset::Column::Format,
            template_asset::Column::IsTemplate,
        ])
        .filter(template_asset::Column::OsTemplateId.is_in(ids.to_vec()))
        .order_by_asc(template_asset::Column::Id)
        .into_model::<Asset>()
        .all(db)
        .await?;
    let texts: Vec<Id> = assets.iter().filter(|a| a.is_text()).map(|a| a.id).collect();
    let texts: BTreeMap<Id, String> = template_asset::Entity::find()
        .select_only()
        .columns([template_asset::Column::Id, template_asset::Column::Content])
        .filter(template_asset::Column::Id.is_in(texts))
        .filter(template_asset::Column::Size.lte(LONGEST))
        .into_tuple::<(i64, Option<Vec<u8>>)>()
        .all(db)
        .await?
        .into_iter()
        .filter_map(|(id, content)| Some((id, String::from_utf8(content?).ok()?)))
        .collect();
    let mut own: BTreeMap<Id, Vec<&Asset>> = BTreeMap::new();
    for asset in &assets {
        own.entry(asset.os_template_id).or_default().push(asset);
    }
    let whole = |t: &os_template::Model| {
        let made = Maker { row: t, assets: own.get(&t.id).map_or(&[], Vec::as_slice), texts: &texts }.make();
        let username = t.body.pointer("/os/credential/username").and_then(serde_json::Value::as_str);
        let username = username.filter(|u| !u.is_empty()).map(str::to_owned);
        let problem = made.as_ref().err().map(|p| format!("OS template {}: {p}", t.name));
        (t.id, Template { os: made.ok(), problem, username })
    };
    Ok(rows.iter().map(whole).collect())
}

impl Asset {
    /// The last part of its path, or its name.
    fn file_name(&self) -> &str {
        let whole = self.path.as_deref().filter(|p| !p.is_empty()).unwrap_or(&self.name);
        whole.rsplit('/').next().unwrap_or(whole)
    }

    /// A text is known by its name (`user-data`, `templates/user-data.yaml`), as cloud-init calls it.
    fn is_called(&self, word: &str) -> bool {
        let names = [Some(&self.name), self.path.as_ref()];
        let last = |n: &String| n.rsplit('/').next().and_then(|n| n.split('.').next()) == Some(word);
        names.into_iter().flatten().any(last)
    }

    fn has_special_name(&self) -> bool {
        TEXTS.iter().chain([&ARGUMENTS, &READY_URL]).any(|t| self.is_called(t))
    }

    fn is_text(&self) -> bool {
        self.is_template || self.mime_type == "text/plain" || self.has_special_name()
    }

    fn is_iso(&self) -> bool {
        self.format == "iso" || self.file_name().to_ascii_lowercase().ends_with(".iso")
    }

    /// Whether it is a program or an archive that an installer is started with.
    fn is_binary(&self) -> bool {
        !self.is_text() && !self.is_iso() && self.sha256.is_some()
    }

    fn is_kernel(&self) -> bool {
        let name = self.file_name().to_ascii_lowercase();
        self.is_binary()
            && !self.is_initrd()
            && (name.contains("vmlinuz") || name.contains("kernel") || name == "linux" || name == "wimboot")
    }

    fn is_initrd(&self) -> bool {
        let name = self.file_name().to_ascii_lowercase();
        self.is_binary() && (name.contains("initrd") || name.contains("initramfs"))
    }

    fn image(&self) -> ImageRef {
        ImageRef {
            sha256: self.sha256.clone().unwrap_or_default(),
            size: u64::try_from(self.size).unwrap_or(0),
            format: self.format.clone(),
            url: self.url.clone(),
        }
    }
}

/// Makes the installable part of one template, or says what is missing.
struct Maker<'a> {
    row: &'a os_template::Model,
    assets: &'a [&'a Asset],
    texts: &'a BTreeMap<Id, String>,
}

impl Maker<'_> {
    fn word(&self, pointer: &str) -> Option<&str> {
        self.row.body.pointer(pointer).and_then(serde_json::Value::as_str)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.assets.iter().filter(|a| a.is_called(name)).find_map(|a| self.texts.get(&a.id).cloned())
    }

    fn make(&self) -> Result<OsInstall, String> {
        let (image, method) = match self.word("/install/method").unwrap_or("copy") {
            "oob" => self.media()?,
            "copy" => match self.network()? {
                Some(found) => found,
                None => (self.disk_image()?, InstallMethod::Image),
            },
            other => {
                return Err(format!("its install.method {other} is not for servers; set copy or oob"));
            }
        };
        let files = self.files(&method)?;
        let answers = !files.is_empty() || self.text("user-data").is_some();
        match &method {
            InstallMethod::Network { .. } if !answers => {
                return Err("its installer would wait for a person: add an answer file as a text asset (for example preseed.cfg, ks.cfg or user-data)".into());
            }
            InstallMethod::Media { rebuild: true, components } if files.is_empty() && components.is_empty() => {
                return Err("imageBuild.required is set, but there is nothing to put on the medium; add text assets with their paths, or set imageBuild.required to false".into());
            }
            _ => {}
        }
        let ready = self.ready(&method, &files)?;
        let tags = self.row.tags.as_array().map_or(&[][..], Vec::as_slice);
        Ok(OsInstall {
            template_id: self.row.id,
            name: self.row.name.clone(),
            os_name: self.word("/os/name").unwrap_or(&self.row.name).to_owned(),
            os_version: self.word("/os/version").unwrap_or_default().to_owned(),
            image,
            method,
            files,
            ready,
            erase: ERASE.iter().find(|(tag, _)| tags.iter().any(|t| t == tag)).map(|(_, erase)| *erase),
            local_disk_only: tags.iter().any(|t| t == LOCAL_DISK_ONLY),
            user_data: self.text("user-data"),
            meta_data: self.text("meta-data"),
        })
    }

    fn disk_image(&self) -> Result<ImageRef, String> {
        let found = IMAGE.iter().find_map(|usage| self.assets.iter().find(|a| a.usage == *usage && a.sha256.is_some()));
        match found {
            None => Err("it has no disk image; add an asset of usage source_image with its checksum".into()),
            Some(a) if a.is_iso() => Err(format!(
                "{} is an installation medium, which cannot be written to a disk; set install.method to oob, or add a disk image",
                a.file_name()
            )),
            Some(a) => Ok(a.image()),
        }
    }

    /// An installer from the network, when there are a kernel and its RAM disk.
    fn network(&self) -> Result<Option<(ImageRef, InstallMethod)>, String> {
        let kernel = self.assets.iter().find(|a| a.is_kernel());
        let windows = kernel.is_some_and(|k| k.file_name().eq_ignore_ascii_case("wimboot"));
        let belongs = |a: &&&Asset| if windows { a.is_binary() && !a.is_kernel() } else { a.is_initrd() };
        let initrds: Vec<NamedImage> = self
            .assets
            .iter()
            .filter(belongs)
            .map(|a| NamedImage { name: a.file_name().to_owned(), image: a.image() })
            .collect();
        match (kernel, initrds.is_empty()) {
            (None, true) => Ok(None),
            (Some(kernel), true) => Err(format!(
                "it has the kernel {} of an installer but no initial RAM disk; add one whose name says initrd",
                kernel.file_name()
            )),
            (None, false) => Err(
                "it has an initial RAM disk of an installer but no kernel; add one whose name says vmlinuz or kernel"
                    .into(),
            ),
            (Some(_), false) if windows && !initrds.iter().any(|i| i.name.to_ascii_lowercase().ends_with(".wim")) => {
                Err("it has wimboot but no image of Windows PE; add boot.wim, BCD and boot.sdi".into())
            }
            (Some(kernel), false) => {
                let arguments = self.text(ARGUMENTS).unwrap_or_default();
                if arguments.trim().is_empty() && !windows {
                    return Err(format!(
                        "its installer would not find its answer file; add a text asset {ARGUMENTS}, for example: auto=true url={{{{ seed_url }}}}preseed.cfg"
                    ));
                }
                Ok(Some((kernel.image(), InstallMethod::Network { initrds, arguments })))
            }
        }
    }

    fn media(&self) -> Result<(ImageRef, InstallMethod), String> {
        let iso = IMAGE
            .iter()
            .find_map(|usage| self.assets.iter().find(|a| a.usage == *usage && a.is_iso() && a.sha256.is_some()));
        let Some(iso) = iso else {
            return Err("install.method is oob, but it has no installation medium; add an asset of usage source_image whose name ends in .iso, with its checksum".into());
        };
        let rebuild =
            self.row.body.pointer("/imageBuild/required").and_then(serde_json::Value::as_bool).unwrap_or(false);
        let components = self.assets.iter().filter(|a| rebuild && a.is_binary() && a.usage == "build_component");
        let components = components
            .map(|a| match a.path.clone().filter(|p| p.starts_with('/')) {
                Some(name) => Ok(NamedImage { name, image: a.image() }),
                None => Err(format!("{} has no path on the medium; set its file.path", a.name)),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((iso.image(), InstallMethod::Media { rebuild, components }))
    }

    fn files(&self, method: &InstallMethod) -> Result<BTreeMap<String, TextFile>, String> {
        let mut files = BTreeMap::new();
        // cloud-init's texts have a place of their own, but a medium needs all that belong on it.
        let on_medium = matches!(method, InstallMethod::Media { .. });
        let cloud_init = |a: &Asset| TEXTS.iter().any(|t| a.is_called(t));
        for a in self.assets.iter().filter(|a| a.is_text()) {
            if a.has_special_name() && !(on_medium && cloud_init(a)) {
                continue;
            }
            let Some(text) = self.texts.get(&a.id) else {
                // A system that is copied as it is needs none of them.
                if *method == InstallMethod::Image {
                    continue;
                }
                if a.size > LONGEST {
                    return Err(format!("the text {} is larger than {} KiB; make it smaller", a.name, LONGEST / 1024));
                }
                return Err(format!("the text {} must be in the template itself: send it as contentBase64", a.name));
            };
            let file = TextFile {
                text: text.clone(),
                template: a.is_template || a.has_special_name(),
                path: a.path.clone().unwrap_or_default(),
            };
            if files.insert(a.file_name().to_owned(), file).is_some() {
                return Err(format!("it has two texts named {}; rename one", a.file_name()));
            }
        }
        Ok(files)
    }

    fn ready(&self, method: &InstallMethod, files: &BTreeMap<String, TextFile>) -> Result<ReadySignal, String> {
        if *method == InstallMethod::Image {
            // The program that writes the image reports its end itself.
            return Ok(ReadySignal::PowerOff);
        }
        let url = self.text(READY_URL).filter(|u| !u.trim().is_empty());
        match self.word("/install/readyMethod").unwrap_or("wait_for_power_off") {
            "wait_for_power_off" => Ok(ReadySignal::PowerOff),
            "wait_for_signal_from_os" => {
                let arguments = self.text(ARGUMENTS);
                let texts = files.values().map(|f| &f.text);
                let told = self.text("user-data");
                let mut all = texts.chain(told.as_ref()).chain(arguments.as_ref());
                if all.any(|t| t.contains("ready_url") || t.contains("phone_home_url")) {
                    return Ok(ReadySignal::Signal);
                }
                Err("install.readyMethod is wait_for_signal_from_os, but none of its texts posts to {{ ready_url }}; add that to the answer file".into())
            }
            "wait_for_ssh" => {
                let port = self.row.body.pointer("/os/sshPort").and_then(serde_json::Value::as_u64);
                match port.map(u16::try_from) {
                    None | Some(Ok(0)) => Ok(ReadySignal::Ssh { port: SSH_PORT }),
                    Some(Ok(port)) => Ok(ReadySignal::Ssh { port }),
                    Some(Err(_)) => Err("os.sshPort is no TCP port".into()),
                }
            }
            "wait_for_api_response" => url.map(|url| ReadySignal::ApiResponse { url }).ok_or_else(|| {
                format!("install.readyMethod is wait_for_api_response, but it has no text asset {READY_URL}; add one, for example: https://{{{{ interfaces[0].address }}}}/")
            }),
            other => Err(format!("its install.readyMethod {other} is not known")),
        }
    }
}

/// The image that an asset is.
pub fn image_ref(asset: &template_asset::Model) -> ImageRef {
    ImageRef {
        sha256: asset.sha256.clone().unwrap_or_default(),
        size: u64::try_from(asset.size).unwrap_or(0),
        format: asset.format.clone(),
        url: asset.url.clone(),
    }
}
