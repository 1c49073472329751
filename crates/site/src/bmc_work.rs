//! How far a job has come that works on a server through its BMC over a long time: it goes on from there after a restart of the site.

use std::path::PathBuf;

use model::{Id, firmware::Image};
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, QueryFilter, sea_query::OnConflict};

use crate::{Site, entity::bmc_work, image::State, session::now};

/// A job that did not look for this long is not at work any more.
const DEAD: i64 = 10 * 60;

/// An image, at hand.
pub(crate) struct AtHand {
    /// On this machine.
    pub file: PathBuf,
    /// Where BMCs fetch it.
    pub url: String,
    /// Its name.
    pub name: String,
}

/// How an image stands.
pub(crate) enum Fetched {
    /// At hand.
    Here(AtHand),
    /// Not yet, in words.
    Coming(String),
}

impl Site {
    /// How far a job has come, if it has begun.
    pub(crate) async fn bmc_work(&self, job_id: Id) -> Result<Option<bmc_work::Model>, DbErr> {
        bmc_work::Entity::find_by_id(job_id).one(&self.db.read).await
    }

    /// Notes how far a job has come.
    pub(crate) async fn note_bmc_work(&self, work: &mut bmc_work::Model) -> Result<(), DbErr> {
        work.looked_at = now();
        let row: bmc_work::ActiveModel = work.clone().into();
        bmc_work::Entity::insert(row.reset_all())
            .on_conflict(
                OnConflict::column(bmc_work::Column::JobId)
                    .update_columns([
                        bmc_work::Column::Stage,
                        bmc_work::Column::Task,
                        bmc_work::Column::VersionBefore,
                        bmc_work::Column::Sha256,
                        bmc_work::Column::Starts,
                        bmc_work::Column::WasOn,
                        bmc_work::Column::Notes,
                        bmc_work::Column::Since,
                        bmc_work::Column::LookedAt,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(&self.db.write)
            .await?;
        Ok(())
    }

    /// A job has come to its end.
    pub(crate) async fn end_bmc_work(&self, job_id: Id) -> Result<(), DbErr> {
        bmc_work::Entity::delete_by_id(job_id).exec(&self.db.write).await?;
        Ok(())
    }

    /// Whether another job writes firmware of that server at this moment: its power is not to be touched then.
    pub(crate) async fn writes_firmware(&self, server_id: Id, but: Id) -> Result<bool, DbErr> {
        let found = bmc_work::Entity::find()
            .filter(bmc_work::Column::ServerId.eq(server_id))
            .filter(bmc_work::Column::Kind.eq("firmware"))
            .filter(bmc_work::Column::Stage.is_not_in(["begin"]))
            .filter(bmc_work::Column::JobId.ne(but))
            .filter(bmc_work::Column::LookedAt.gt(now() - DEAD))
            .one(&self.db.read)
            .await?;
        Ok(found.is_some())
    }

    /// An image of firmware, fetched and checked; one that is known by its place alone is named by what came.
    pub(crate) async fn firmware_image(&self, image: &Image, sha256: &mut Option<String>) -> anyhow::Result<Fetched> {
        let (digest, from) = match image {
            Image::Checked(image) => match self.images.want(image) {
                State::Here => (image.sha256.clone(), image.url.clone().unwrap_or_default()),
                State::Coming(bytes) => {
                    return Ok(Fetched::Coming(format!(
                        "the site fetches the image: {} of {} MiB",
                        bytes >> 20,
                        image.size >> 20
                    )));
                }
                State::Failing(why) => {
                    return Ok(Fetched::Coming(format!("the site cannot get the image yet: {why}")));
                }
            },
            Image::Url { url } => {
                let known = sha256.clone().filter(|digest| self.images.has(digest));
                let digest = match known {
                    Some(digest) => digest,
                    None => self.images.adopt(url).await?,
                };
                *sha256 = Some(digest.clone());
                (digest, url.clone())
            }
        };
        let last = from.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let name: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
        let name = if name.is_empty() { "firmware.bin".to_owned() } else { name };
        // Some BMCs look at the ending of the URL.
        let url = format!("{}/images/{digest}?file={name}", self.http_base);
        Ok(Fetched::Here(AtHand { file: self.images.path(&digest), url, name }))
    }
}
