//! Who the site is: its certificate, its sealing key, and how it got them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use crypto::{Identity, Sealer, write_private};
use link::client::Membership;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{Site, SiteConfig};

/// Days of a certificate's life after which the next one is asked for.
const RENEW_AFTER: Duration = Duration::from_hours(24 * 30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_hours(1);

#[derive(Serialize, Deserialize)]
struct Stored {
    site_id: model::Id,
    certificate_pem: String,
    key_pem: String,
    ca_pem: String,
    sealing_key: String,
    /// Seconds since 1970.
    certificate_since: u64,
}

/// Holds the membership, in memory and in a file that only its owner reads.
pub(crate) struct Keeper {
    path: PathBuf,
    url: String,
    stored: RwLock<Stored>,
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".into(), |h| h.trim().to_owned())
}

fn save(path: &Path, stored: &Stored) -> Result<()> {
    Ok(write_private(path, serde_json::to_string(stored)?.as_bytes())?)
}

impl Keeper {
    /// The stored membership, or a new one with the configured token.
    pub(crate) async fn load_or_enrol(config: &SiteConfig) -> Result<(Self, Sealer)> {
        let path = config.data_dir.join("membership.json");
        let stored = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let stored = enrol(config).await?;
                save(&path, &stored)?;
                stored
            }
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let sealer = Sealer::from_hex(&stored.sealing_key)?;
        Ok((Self { path, url: config.global.clone(), stored: RwLock::new(stored) }, sealer))
    }

    pub(crate) fn site_id(&self) -> model::Id {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).site_id
    }

    /// What the next connection uses.
    pub(crate) fn current(&self) -> Membership {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        Membership {
            url: self.url.clone(),
            ca_pem: stored.ca_pem.clone(),
            identity: Identity { certificate_pem: stored.certificate_pem.clone(), key_pem: stored.key_pem.clone() },
        }
    }

    fn is_due(&self) -> bool {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        now().saturating_sub(stored.certificate_since) > RENEW_AFTER.as_secs()
    }

    fn replace(&self, next: Membership) -> Result<()> {
        let mut stored = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        stored.certificate_pem = next.identity.certificate_pem;
        stored.key_pem = next.identity.key_pem;
        stored.ca_pem = next.ca_pem;
        stored.certificate_since = now();
        save(&self.path, &stored)
    }
}

async fn enrol(config: &SiteConfig) -> Result<Stored> {
    let Some(word) = &config.token else {
        bail!(
            "this site is not enrolled: make a token (steelyard site enrol-token SITE), and start once with it (--token, \
             STEELYARD_SITE_TOKEN or site.token)"
        );
    };
    let Some((token, authority)) = link::enrol::parse(word) else {
        bail!("the token is not whole: it is two parts of 64 hexadecimal digits with a dot between them");
    };
    let enrolled = link::client::enrol(&config.global, token, authority, &hostname(), env!("CARGO_PKG_VERSION"))
        .await
        .context("cannot enrol")?;
    tracing::info!(site = enrolled.site_id, "enrolled");
    Ok(Stored {
        site_id: enrolled.site_id,
        certificate_pem: enrolled.membership.identity.certificate_pem,
        key_pem: enrolled.membership.identity.key_pem,
        ca_pem: enrolled.membership.ca_pem,
        sealing_key: enrolled.sealing_key,
        certificate_since: now(),
    })
}

/// Renews the certificate in time, and tries again each hour when that fails.
pub(crate) async fn renew(site: Arc<Site>, shutdown: CancellationToken) {
    loop {
        if site.membership.is_due() {
            let renewed = async { site.membership.replace(site.membership.current().renew().await?) };
            match renewed.await {
                Ok(()) => tracing::info!("the site's certificate was renewed"),
                Err(error) => {
                    tracing::warn!(%error, "the site's certificate could not be renewed; trying again in an hour");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
