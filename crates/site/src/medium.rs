//! Installation media that are made for one server each: the template's ISO with the rendered files in it.

use std::{path::Path, process::Stdio};

use engine::{JobContext, JobError};
use model::{Id, template::InstallMethod};
use netboot::{backend::Directory, installer::InstallerContext, render::SeedContext};
use tokio::{fs, process::Command};

use crate::{Site, entity::boot_session};

/// Lines of the program's last words that are kept.
const LAST_WORDS: usize = 4;

/// The medium of a session is at hand. Made once; it holds the new system's secrets, so it goes with the session.
pub(crate) async fn prepare(site: &Site, ctx: &JobContext, session: &boot_session::Model) -> Result<(), JobError> {
    let whole = site.whole(session).map_err(JobError::retry)?;
    let Some(install) = &whole.install else { return Ok(()) };
    let InstallMethod::Media { rebuild: true, components } = &install.os.method else { return Ok(()) };
    let medium = site.images.medium(session.job_id, &whole.token);
    if medium.exists() {
        return Ok(());
    }
    let password_hash = site.password_hash(&whole).await.map_err(JobError::retry)?;
    let password = site.password(&whole).await.map_err(JobError::retry)?;
    let secrets = site.secrets(&whole).await.map_err(JobError::retry)?;
    let http_base = &site.http_base;
    let seed = SeedContext { session: &whole, install, password_hash: &password_hash, secrets: &secrets, http_base };
    let texts = InstallerContext { seed, password: &password }.files().map_err(JobError::fatal)?;
    let storing = |e: std::io::Error| JobError::retry(format!("the installation medium cannot be stored: {e}"));

    let folder = site.images.media().join(session.job_id.to_string());
    private_folder(&site.images.media()).await.map_err(storing)?;
    // What an earlier try left is of another session, or not known to be whole.
    forget(site, session.job_id).await;
    private_folder(&folder).await.map_err(storing)?;
    let mut maps = Vec::new();
    for (n, (path, text)) in texts.iter().enumerate() {
        let file = folder.join(n.to_string());
        fs::write(&file, text).await.map_err(storing)?;
        maps.push((file, path.as_str()));
    }
    maps.extend(components.iter().map(|c| (site.images.path(&c.image.sha256), c.name.as_str())));
    let part = folder.join("part.iso");
    ctx.progress(1, "making the installation medium");
    let made = run(&site.xorriso, &site.images.path(&install.os.image.sha256), &part, &maps).await;
    let result = match made {
        Ok(()) => fs::rename(&part, &medium).await.map_err(storing),
        Err(e) => Err(e),
    };
    let _ = fs::remove_dir_all(&folder).await;
    result
}

async fn private_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).await
}

async fn run(program: &Path, from: &Path, to: &Path, maps: &[(std::path::PathBuf, &str)]) -> Result<(), JobError> {
    let mut command = Command::new(program);
    // What makes the medium bootable, on CD and on USB, is kept as it is.
    command.arg("-no_rc").arg("-indev").arg(from).arg("-outdev").arg(to).args(["-boot_image", "any", "replay"]);
    command.args(["-overwrite", "nondir"]);
    for (file, path) in maps {
        command.arg("-map").arg(file).arg(path);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|e| {
        JobError::retry(format!(
            "{} cannot be run ({e}); this template needs it to make installation media: install the package xorriso at the site",
            program.display()
        ))
    })?;
    if output.status.success() && to.exists() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("; ");
    Err(JobError::retry(format!(
        "the installation medium cannot be made ({}): {last}; look at the ISO and the paths of the template's files",
        output.status
    )))
}

/// The job whose medium, or whose unfinished one, has this name.
fn job_of(name: &std::ffi::OsStr) -> Option<Id> {
    name.to_str()?.split(['-', '.']).next()?.parse().ok()
}

async fn all(site: &Site) -> Vec<(Id, std::path::PathBuf)> {
    let mut found = Vec::new();
    // Without the folder there is none.
    let Ok(mut entries) = fs::read_dir(site.images.media()).await else { return found };
    while let Ok(Some(entry)) = entries.next_entry().await {
        found.extend(job_of(&entry.file_name()).map(|id| (id, entry.path())));
    }
    found
}

async fn remove(path: &Path) {
    let _ = fs::remove_file(path).await;
    let _ = fs::remove_dir_all(path).await;
}

/// Removes the media of a job.
pub(crate) async fn forget(site: &Site, job_id: Id) {
    for (_, path) in all(site).await.into_iter().filter(|(id, _)| *id == job_id) {
        remove(&path).await;
    }
}

/// Removes media whose sessions are over: their jobs were killed.
pub(crate) async fn sweep(site: &Site) {
    for (id, path) in all(site).await {
        let lives = match site.session(id).await {
            Ok(Some(session)) => site.lives(&site.db.read, &session).await.unwrap_or(true),
            Ok(None) => false,
            Err(_) => true,
        };
        if !lives {
            remove(&path).await;
        }
    }
}
