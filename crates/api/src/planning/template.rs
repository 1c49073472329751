//! OS templates as plans need them: many at once.

use std::collections::BTreeMap;

use model::{
    Id,
    template::{ImageRef, OsInstall},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
};
use store::entity::{os_template, template_asset};

use super::design::Template;

/// Texts that cloud-init reads.
const TEXTS: [&str; 2] = ["user-data", "meta-data"];
/// Usages of an asset that make it the disk image, the best first.
const IMAGE: [&str; 3] = ["source_image", "image", "build_source_image"];

/// An asset without its content: an image's may be large.
#[derive(FromQueryResult)]
struct Asset {
    id: i64,
    os_template_id: i64,
    usage: String,
    name: String,
    path: Option<String>,
    url: Option<String>,
    sha256: Option<String>,
    size: i64,
    format: String,
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
            template_asset::Column::Path,
            template_asset::Column::Url,
            template_asset::Column::Sha256,
            template_asset::Column::Size,
            template_asset::Column::Format,
        ])
        .filter(template_asset::Column::OsTemplateId.is_in(ids.to_vec()))
        .order_by_asc(template_asset::Column::Id)
        .into_model::<Asset>()
        .all(db)
        .await?;
    let texts: Vec<Id> = assets.iter().filter(|a| TEXTS.iter().any(|t| a.is_called(t))).map(|a| a.id).collect();
    let texts: BTreeMap<Id, String> = template_asset::Entity::find()
        .select_only()
        .columns([template_asset::Column::Id, template_asset::Column::Content])
        .filter(template_asset::Column::Id.is_in(texts))
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
    Ok(rows.iter().map(|t| (t.id, template(t, own.get(&t.id).map_or(&[], Vec::as_slice), &texts))).collect())
}

impl Asset {
    /// A text is known by its name (`user-data`, `templates/user-data.yaml`), as cloud-init calls it.
    fn is_called(&self, word: &str) -> bool {
        let names = [Some(&self.name), self.path.as_ref()];
        let last = |n: &String| n.rsplit('/').next().and_then(|n| n.split('.').next()) == Some(word);
        names.into_iter().flatten().any(last)
    }
}

fn template(row: &os_template::Model, assets: &[&Asset], texts: &BTreeMap<Id, String>) -> Template {
    let word = |pointer: &str| row.body.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    let image = IMAGE.iter().find_map(|usage| assets.iter().find(|a| a.usage == *usage && a.sha256.is_some()));
    let text = |name: &str| assets.iter().filter(|a| a.is_called(name)).find_map(|a| texts.get(&a.id).cloned());
    let os = image.map(|image| OsInstall {
        template_id: row.id,
        name: row.name.clone(),
        os_name: word("/os/name").unwrap_or_else(|| row.name.clone()),
        os_version: word("/os/version").unwrap_or_default(),
        image: ImageRef {
            sha256: image.sha256.clone().unwrap_or_default(),
            size: u64::try_from(image.size).unwrap_or(0),
            format: image.format.clone(),
            url: image.url.clone(),
        },
        user_data: text("user-data"),
        meta_data: text("meta-data"),
    });
    Template { os, username: word("/os/credential/username").filter(|u| !u.is_empty()) }
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
