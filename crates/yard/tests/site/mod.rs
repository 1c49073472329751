//! A tiny site, written for these tests alone: DHCP by hand, TFTP, and HTTP with the agent protocol.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::UdpSocket, task::JoinHandle};

/// Bearer token of every boot session.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What the site knows and has seen.
#[derive(Default)]
pub struct Seen {
    /// `discover`, `install` or `local`, by MAC with hyphens; unknown machines discover.
    pub sessions: HashMap<String, String>,
    /// cloud-init network-config of installs.
    pub network_config: String,
    /// Inventories by serial.
    pub inventories: HashMap<String, Value>,
    /// Bodies of `done`.
    pub done: Vec<Value>,
    /// Progress reports.
    pub progress: Vec<Value>,
    /// Bodies of phone-home.
    pub home: Vec<String>,
    /// DHCP requests: (message type, class, user class, architecture, circuit id, source is giaddr).
    pub dhcp: Vec<(u8, String, String, u16, String, bool)>,
    /// Files read over TFTP.
    pub tftp: Vec<String>,
    /// Range headers of image requests.
    pub ranges: Vec<String>,
}

/// A running site.
pub struct Site {
    /// What it has seen.
    pub seen: Arc<Mutex<Seen>>,
    /// DHCP address.
    pub dhcp: SocketAddr,
    /// TFTP port.
    pub tftp: u16,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The image that is installed.
pub fn image() -> Vec<u8> {
    (0..2_000_003_u32).map(|n| (n % 251) as u8).collect()
}

impl Site {
    pub async fn start() -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let dhcp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dhcp_addr = dhcp.local_addr().unwrap();
        let tftp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tftp_port = tftp.local_addr().unwrap().port();
        let tasks = vec![
            tokio::spawn(serve_dhcp(dhcp, http, seen.clone())),
            tokio::spawn(serve_tftp(tftp, seen.clone())),
            tokio::spawn(serve_http(listener, http, seen.clone())),
        ];
        Self { seen, dhcp: dhcp_addr, tftp: tftp_port, tasks }
    }
}

/// Value of a DHCP option, or of a sub-option with the same coding.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, rest @ ..] = options {
        match code {
            0 => options = rest,
            255 => return None,
            code => {
                let length = usize::from(*rest.first()?);
                let value = rest.get(1..=length)?;
                if *code == wanted {
                    return Some(value);
                }
                options = &rest[1 + length..];
            }
        }
    }
    None
}

async fn serve_dhcp(socket: UdpSocket, http: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let mut buffer = [0; 1500];
    let mut leases: HashMap<Vec<u8>, u8> = HashMap::new();
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let packet = &buffer[..length];
        let options = &packet[240..];
        let kind = option(options, 53).unwrap()[0];
        let text = |code| String::from_utf8_lossy(option(options, code).unwrap_or_default()).into_owned();
        let architecture = option(options, 93).map_or(u16::MAX, |a| u16::from_be_bytes([a[0], a[1]]));
        let relay = option(options, 82).unwrap_or_default();
        let circuit = String::from_utf8_lossy(option(relay, 1).unwrap_or_default()).into_owned();
        let giaddr: [u8; 4] = packet[24..28].try_into().unwrap();
        let (class, user) = (text(60), text(77));
        seen.lock().unwrap().dhcp.push((
            kind,
            class.clone(),
            user.clone(),
            architecture,
            circuit,
            from.ip() == Ipv4Addr::from(giaddr) && option(relay, 19).is_some_and(<[u8]>::is_empty),
        ));
        let mac = packet[28..34].to_vec();
        let next = leases.len() as u8 + 10;
        let last = *leases.entry(mac.clone()).or_insert(next);
        let name = mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join("-");
        let file = match (user.as_str(), architecture) {
            ("iPXE", _) => format!("http://{http}/boot/{name}/script.ipxe"),
            (_, 16) => format!("http://{http}/boot/ipxe.efi"),
            (_, 0) => "undionly.kpxe".to_owned(),
            _ => "ipxe.efi".to_owned(),
        };
        let mut reply = vec![0_u8; 240];
        reply[..240].copy_from_slice(&packet[..240]);
        reply[0] = 2;
        reply[16..20].copy_from_slice(&[10, 99, 0, last]);
        reply[20..24].copy_from_slice(&[127, 0, 0, 1]);
        reply[44..236].fill(0);
        reply.extend([53, 1, if kind == 1 { 2 } else { 5 }, 54, 4, 127, 0, 0, 1, 1, 4, 255, 255, 0, 0]);
        reply.extend([51, 4, 0, 0, 14, 16]);
        if class.starts_with("HTTPClient") {
            reply.extend([60, 10]);
            reply.extend(b"HTTPClient");
        }
        reply.extend([67, file.len() as u8]);
        reply.extend(file.as_bytes());
        reply.extend([82, relay.len() as u8]);
        reply.extend(relay);
        reply.push(255);
        // RFC 8357: to the relay's address, at the port that it sent from.
        socket.send_to(&reply, (Ipv4Addr::from(giaddr), from.port())).await.unwrap();
    }
}

async fn serve_tftp(socket: UdpSocket, seen: Arc<Mutex<Seen>>) {
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        if buffer[1] != 1 {
            continue;
        }
        let fields: Vec<String> =
            buffer[2..length].split(|b| *b == 0).map(|f| String::from_utf8_lossy(f).into_owned()).collect();
        seen.lock().unwrap().tftp.push(fields[0].clone());
        assert!(fields.contains(&"windowsize".to_owned()) && fields.contains(&"blksize".to_owned()));
        tokio::spawn(async move {
            let transfer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let data = vec![0x4d_u8; 9000];
            let blocks: Vec<&[u8]> = data.chunks(1024).collect();
            let oack = format!("\0\x06blksize\x001024\0windowsize\x002\0tsize\0{}\0", data.len());
            let mut answer = [0; 600];
            let (mut sent, mut first, mut lost) = (0_usize, true, false);
            loop {
                if first {
                    transfer.send_to(oack.as_bytes(), from).await.unwrap();
                } else {
                    for (n, block) in blocks.iter().enumerate().skip(sent).take(2) {
                        // One block of the second window is lost on the way, once.
                        if n == 3 && !lost {
                            lost = true;
                            continue;
                        }
                        let number = (n as u16 + 1).to_be_bytes();
                        let packet = [&[0, 3, number[0], number[1]][..], block].concat();
                        transfer.send_to(&packet, from).await.unwrap();
                    }
                }
                let waited = tokio::time::timeout(Duration::from_secs(5), transfer.recv_from(&mut answer)).await;
                let Ok(Ok(_)) = waited else { return };
                first = false;
                sent = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
                if sent == blocks.len() {
                    return;
                }
            }
        });
    }
}

#[derive(Clone)]
struct Http {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

async fn serve_http(listener: tokio::net::TcpListener, address: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let router = Router::new()
        .route("/boot/ipxe.efi", get(|| async { "MZ binary" }))
        .route("/boot/{mac}/script.ipxe", get(script))
        .route("/boot/agent/vmlinuz", get(|| async { "kernel" }))
        .route("/boot/agent/initrd", get(|| async { "initrd" }))
        .route("/agent/v1/task", get(task))
        .route("/agent/v1/progress", post(progress))
        .route("/agent/v1/inventory", post(inventory))
        .route("/agent/v1/done", post(done))
        .route("/seed/{token}/{file}", get(seed))
        .route("/images/{digest}", get(send_image))
        .route("/phone-home/{token}", post(home))
        .with_state(Http { address, seen });
    axum::serve(listener, router).await.unwrap();
}

async fn script(State(site): State<Http>, Path(mac): Path<String>) -> String {
    let session = site.seen.lock().unwrap().sessions.get(&mac).cloned().unwrap_or_else(|| "discover".into());
    if session == "local" {
        return "#!ipxe\nsanboot --no-describe --drive 0x80 || exit 0\n".into();
    }
    let url = format!("http://{}", site.address);
    format!(
        "#!ipxe\nkernel {url}/boot/agent/vmlinuz initrd=initrd.img steelyard.url={url} steelyard.token={TOKEN}.{mac} steelyard.mac={mac}\ninitrd --name initrd.img {url}/boot/agent/initrd\nboot\n"
    )
}

/// MAC of the session that a request belongs to.
fn session(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")?.strip_prefix(TOKEN)?.strip_prefix('.').map(str::to_owned)
}

async fn task(State(site): State<Http>, headers: HeaderMap) -> Response {
    let Some(mac) = session(&headers) else { return StatusCode::UNAUTHORIZED.into_response() };
    let kind = site.seen.lock().unwrap().sessions.get(&mac).cloned().unwrap_or_else(|| "discover".into());
    let url = format!("http://{}", site.address);
    let image = image();
    let digest = hex::encode(Sha256::digest(&image));
    let steps = match kind.as_str() {
        "install" => json!([
            {"kind": "inventory"}, {"kind": "wipe", "disks": "all"},
            {"kind": "write_image", "url": format!("{url}/images/{digest}"), "sha256": digest, "format": "raw", "size": image.len(), "disk": "first"},
            {"kind": "seed", "url": format!("{url}/seed/{TOKEN}.{mac}/")}, {"kind": "bootloader"}, {"kind": "finish"}]),
        "strange" => json!([{"kind": "dance"}]),
        _ => json!([{"kind": "inventory"}, {"kind": "finish"}]),
    };
    axum::Json(json!({"task": kind, "steps": steps})).into_response()
}

async fn progress(State(site): State<Http>, axum::Json(body): axum::Json<Value>) -> StatusCode {
    site.seen.lock().unwrap().progress.push(body);
    StatusCode::NO_CONTENT
}

async fn inventory(State(site): State<Http>, axum::Json(body): axum::Json<Value>) -> StatusCode {
    let serial = body["serial"].as_str().unwrap().to_owned();
    site.seen.lock().unwrap().inventories.insert(serial, body);
    StatusCode::NO_CONTENT
}

async fn done(State(site): State<Http>, headers: HeaderMap, axum::Json(body): axum::Json<Value>) -> Response {
    let Some(mac) = session(&headers) else { return StatusCode::UNAUTHORIZED.into_response() };
    let mut seen = site.seen.lock().unwrap();
    let installed = seen.sessions.get(&mac).is_some_and(|kind| kind == "install");
    if installed {
        seen.sessions.insert(mac, "local".into());
    }
    seen.done.push(body);
    axum::Json(json!({"next": if installed { "reboot" } else { "power_off" }})).into_response()
}

async fn seed(State(site): State<Http>, Path((token, file)): Path<(String, String)>) -> Response {
    let mac = token.split('.').nth(1).unwrap_or_default().to_owned();
    match file.as_str() {
        "user-data" => format!(
            "#cloud-config\nhostname: node-{mac}\nphone_home:\n  url: http://{}/phone-home/{token}\n  tries: 3\n",
            site.address
        )
        .into_response(),
        "meta-data" => "instance-id: i-1\n".into_response(),
        "network-config" => {
            let text = site.seen.lock().unwrap().network_config.clone();
            text.replace("MAC", &mac.replace('-', ":"))
                .replace(
                    "LAST",
                    &mac[15..]
                        .parse::<String>()
                        .map_or_else(|_| "9".into(), |hex| u8::from_str_radix(&hex, 16).unwrap().max(1).to_string()),
                )
                .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn send_image(State(site): State<Http>, headers: HeaderMap) -> Response {
    let image = image();
    let Some(range) = headers.get(header::RANGE) else { return image.into_response() };
    let range = range.to_str().unwrap().to_owned();
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    site.seen.lock().unwrap().ranges.push(range);
    (StatusCode::PARTIAL_CONTENT, image[from..].to_vec()).into_response()
}

async fn home(State(site): State<Http>, body: Bytes) -> StatusCode {
    site.seen.lock().unwrap().home.push(String::from_utf8_lossy(&body).into_owned());
    StatusCode::NO_CONTENT
}
