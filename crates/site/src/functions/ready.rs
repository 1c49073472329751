//! Questions to a new system: does it answer? Only its own addresses are asked, whatever a template says.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use engine::{JobContext, JobError};
use futures::{StreamExt, stream::FuturesUnordered};
use ipnet::IpNet;
use model::{boot::InstallSpec, snapshot::SiteServer, template::ReadySignal};
use netboot::{backend::Directory, dhcp::Lease, installer::InstallerContext, render::SeedContext};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::Value;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    Site,
    entity::{boot_session, lease},
    session::now,
};

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Addresses that are asked, at most.
const ADDRESSES: usize = 16;

/// How a question went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The system is ready.
    Ready,
    /// Not yet, in words.
    NotYet(String),
    /// There is nothing to ask: it tells by itself.
    Silent,
}

/// Asks as the template says.
pub(super) async fn ask(
    site: &Site,
    ctx: &JobContext,
    server: &SiteServer,
    spec: &InstallSpec,
    session: &boot_session::Model,
) -> Result<Answer, JobError> {
    match &spec.os.ready {
        ReadySignal::PowerOff | ReadySignal::Signal => Ok(Answer::Silent),
        ReadySignal::Ssh { port } => {
            let addresses = addresses(site, server, spec).await?;
            ctx.progress(10, "asking the new system");
            Ok(ssh(&addresses, *port).await)
        }
        ReadySignal::ApiResponse { .. } => {
            let own = addresses(site, server, spec).await?;
            let session = site.whole(session).map_err(JobError::retry)?;
            let password_hash = site.password_hash(&session).await.map_err(JobError::retry)?;
            let password = site.password(&session).await.map_err(JobError::retry)?;
            let secrets = site.secrets(&session).await.map_err(JobError::retry)?;
            let seed = SeedContext {
                session: &session,
                install: spec,
                password_hash: &password_hash,
                secrets: &secrets,
                http_base: &site.http_base,
            };
            let url = InstallerContext { seed, password: &password }.ready_url().map_err(JobError::fatal)?;
            api(&url.unwrap_or_default(), &own).await
        }
    }
}

/// Where the new system may be reached: its configured addresses, and those that its ports were given by this site.
async fn addresses(site: &Site, server: &SiteServer, spec: &InstallSpec) -> Result<BTreeSet<IpAddr>, JobError> {
    let mut all = configured(&spec.network_config);
    let macs = server.macs.iter().map(ToString::to_string);
    let rows = lease::Entity::find().filter(lease::Column::Mac.is_in(macs)).all(&site.db.read).await?;
    let leases = rows.into_iter().filter_map(|r| serde_json::from_value::<Lease>(r.body).ok());
    all.extend(leases.filter(|l| l.live(now())).map(|l| IpAddr::V4(l.address)));
    Ok(all)
}

/// The addresses of a netplan document.
fn configured(netplan: &Value) -> BTreeSet<IpAddr> {
    let sections =
        ["ethernets", "bonds", "vlans"].into_iter().filter_map(|s| netplan.get(s).and_then(Value::as_object));
    let addresses = sections.flat_map(|s| s.values()).filter_map(|i| i.get("addresses").and_then(Value::as_array));
    addresses.flatten().filter_map(|a| a.as_str()?.parse::<IpNet>().ok()).map(|n| n.addr()).collect()
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether an SSH server greets at one of them.
async fn ssh(addresses: &BTreeSet<IpAddr>, port: u16) -> Answer {
    if addresses.is_empty() {
        return Answer::NotYet("it has no address that could be asked".into());
    }
    let greets = |address: IpAddr| async move {
        let mut greeting = [0u8; 4];
        let talk = async {
            let mut stream = TcpStream::connect((address, port)).await?;
            stream.read_exact(&mut greeting).await
        };
        timeout(ANSWER, talk).await.is_ok_and(|r| r.is_ok()) && greeting == *b"SSH-"
    };
    let mut asked: FuturesUnordered<_> = addresses.iter().take(ADDRESSES).map(|a| greets(*a)).collect();
    while let Some(answered) = asked.next().await {
        if answered {
            return Answer::Ready;
        }
    }
    Answer::NotYet(format!("no SSH at {}", list(addresses)))
}

/// Whether an address of the new system answers with success.
async fn api(url: &str, own: &BTreeSet<IpAddr>) -> Result<Answer, JobError> {
    let parsed = reqwest::Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
    let host = parsed.as_ref().and_then(|u| u.host_str()?.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let (Some(url), Some(host)) = (parsed, host) else {
        return Err(JobError::fatal(format!(
            "the template's ready-url gives {url:?}, which is no http or https URL with an IP address; correct the template, for example: https://{{{{ interfaces[0].address }}}}/ready"
        )));
    };
    if !own.contains(&host) {
        return Ok(Answer::NotYet(format!(
            "{host} of the template's ready-url is none of its addresses ({})",
            list(own)
        )));
    }
    // A new system has a certificate that nobody signed; only whether it answers counts. It must not send the site elsewhere.
    let client = reqwest::Client::builder()
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(JobError::retry)?;
    Ok(match client.get(url).send().await {
        Ok(answer) if answer.status().is_success() => Answer::Ready,
        Ok(answer) => Answer::NotYet(format!("{host} answers {}", answer.status())),
        Err(_) => Answer::NotYet(format!("{host} does not answer")),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn says(words: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                if words.starts_with(b"HTTP") {
                    let _ = stream.read(&mut request).await;
                }
                let _ = stream.write_all(words).await;
                let _ = stream.shutdown().await;
            }
        });
        port
    }

    #[tokio::test]
    async fn ssh_is_a_greeting() {
        let here = BTreeSet::from(["127.0.0.1".parse().unwrap()]);
        assert_eq!(ssh(&here, says(b"SSH-2.0-OpenSSH_9.2\r\n").await).await, Answer::Ready);
        for other in [&b"220 mail\r\n"[..], b"SS"] {
            assert!(matches!(ssh(&here, says(other).await).await, Answer::NotYet(w) if w.contains("127.0.0.1")));
        }
        assert!(matches!(ssh(&BTreeSet::new(), 22).await, Answer::NotYet(_)));
    }

    #[tokio::test]
    async fn only_the_new_system_is_asked() {
        crypto::install_provider();
        let here = BTreeSet::from(["127.0.0.1".parse().unwrap()]);
        let port = says(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        let url = format!("http://127.0.0.1:{port}/ready");
        assert_eq!(api(&url, &here).await.unwrap(), Answer::Ready);
        let elsewhere = BTreeSet::from(["192.0.2.1".parse().unwrap()]);
        assert!(
            matches!(api(&url, &elsewhere).await.unwrap(), Answer::NotYet(w) if w.contains("none of its addresses"))
        );
        let sends_away = says(b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\nconnection: close\r\n\r\n").await;
        let url = format!("http://127.0.0.1:{sends_away}/");
        assert!(matches!(api(&url, &here).await.unwrap(), Answer::NotYet(w) if w.contains("302")));
        for bad in ["", "ftp://127.0.0.1/", "http://example.com/", "nonsense"] {
            assert!(!api(bad, &here).await.unwrap_err().retryable, "{bad}");
        }
    }

    #[test]
    fn addresses_of_a_netplan_document() {
        let netplan = serde_json::json!({"ethernets": {"a": {"addresses": ["10.0.0.1/24"]}}, "vlans": {"b": {"addresses": ["2001:db8::1/64", "x"]}}});
        assert_eq!(list(&configured(&netplan)), "10.0.0.1, 2001:db8::1");
        assert!(configured(&Value::Null).is_empty());
    }
}
