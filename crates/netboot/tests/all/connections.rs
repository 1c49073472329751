//! The HTTP services on real sockets: files that the kernel sends, and what goes by the library, on the same connections.

use std::{sync::Arc, time::Duration};

use netboot::{
    http::{HttpConfig, HttpState, router, serve},
    memory::MemorySite,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

struct Site {
    address: std::net::SocketAddr,
    image: Vec<u8>,
    path: String,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    dir: tempfile::TempDir,
}

async fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let (boot, images) = (dir.path().join("boot"), dir.path().join("images"));
    std::fs::create_dir_all(boot.join("agent")).unwrap();
    std::fs::create_dir_all(&images).unwrap();
    std::fs::write(boot.join("ipxe.efi"), "small").unwrap();
    std::fs::write(boot.join("agent/initrd"), "initrd").unwrap();
    let image: Vec<u8> = (0..5_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let name = "ab".repeat(32);
    std::fs::write(images.join(&name), &image).unwrap();
    let memory = Arc::new(MemorySite::default());
    let config = HttpConfig {
        http_base: "http://site".into(),
        agent_base: "https://site".into(),
        agent_pin: "cd".repeat(32),
        boot_dir: boot,
        images_dir: images,
        kernel_arguments: String::new(),
    };
    let router = router(HttpState { config: Arc::new(config), directory: memory.clone(), events: memory });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, router, stop.clone()));
    Site { address, image, path: format!("/images/{name}"), stop, serving, dir }
}

struct Client(TcpStream);

impl Client {
    async fn new(site: &Site) -> Self {
        Self(TcpStream::connect(site.address).await.unwrap())
    }

    async fn ask(&mut self, request: &str) -> (String, Vec<u8>) {
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.answer().await
    }

    /// Head and body of the next answer.
    async fn answer(&mut self) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(Duration::from_secs(10), self.0.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        timeout(Duration::from_secs(30), self.0.read_exact(&mut body)).await.unwrap().unwrap();
        (head, body)
    }

    async fn closed(&mut self) -> bool {
        matches!(timeout(Duration::from_secs(10), self.0.read_u8()).await, Ok(Err(_)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_parts_and_small_answers_share_a_connection() {
    let site = site().await;
    let mut client = Client::new(&site).await;
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: site\r\n{more}\r\n");
    let (head, body) = client.ask(&get(&site.path, "")).await;
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("\r\ndate: "), "{head}");
    assert!(head.contains("etag: \"abab") && head.contains("accept-ranges: bytes"), "{head}");
    assert!(body == site.image);
    let (head, body) = client.ask(&get(&site.path, "Range: bytes=1000000-4000000\r\n")).await;
    assert!(
        head.starts_with("http/1.1 206") && head.contains("content-range: bytes 1000000-4000000/5000003"),
        "{head}"
    );
    assert!(body == site.image[1_000_000..=4_000_000]);
    let (head, body) = client.ask(&get(&site.path, "Range: bytes=9000000-\r\n")).await;
    assert!(head.starts_with("http/1.1 416") && head.contains("content-range: bytes */5000003") && body.is_empty());
    let tag = format!("If-None-Match: \"{}\"\r\n", "ab".repeat(32));
    let (head, _) = client.ask(&get(&site.path, &tag)).await;
    assert!(head.starts_with("http/1.1 304") && !head.contains("content-length"), "{head}");
    let (head, body) = client.ask(&get("/images/none", "")).await;
    assert!(head.starts_with("http/1.1 404") && body.ends_with(b"\n"), "{head}");
    // A head that comes in pieces.
    for piece in ["GE", "T /boot/agent/init", "rd HTTP/1.1\r\nHo", "st: site\r\n", "\r\n"] {
        client.0.write_all(piece.as_bytes()).await.unwrap();
        client.0.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.answer().await.1, b"initrd");
    // From here on it is the library's, also for files.
    let (head, body) = client.ask(&get("/boot/ipxe.efi", "")).await;
    assert!(head.starts_with("http/1.1 200") && body == b"small", "{head}");
    let (_, body) = client.ask(&get(&site.path, "")).await;
    assert!(body == site.image);

    let mut client = Client::new(&site).await;
    let (head, body) = client.ask(&get(&site.path, "Connection: close\r\n")).await;
    assert!(head.contains("connection: close") && body == site.image && client.closed().await, "{head}");

    // Two requests at once, a request of an older client, a request with a body.
    let mut client = Client::new(&site).await;
    let two = get(&site.path, "") + &get("/boot/agent/initrd", "");
    assert!(client.ask(&two).await.1 == site.image);
    assert_eq!(client.answer().await.1, b"initrd");
    let mut client = Client::new(&site).await;
    let (head, body) = client.ask(&format!("GET {} HTTP/1.0\r\n\r\n", site.path)).await;
    assert!(head.contains(" 200 ok") && body == site.image && client.closed().await, "{head}");
    let mut client = Client::new(&site).await;
    let (head, _) = client.ask("POST /ready/nobody HTTP/1.1\r\nHost: site\r\nContent-Length: 3\r\n\r\na=b").await;
    assert!(head.starts_with("http/1.1 401"), "{head}");

    // Rubbish harms nobody, and a connection that waits does not hold up the end.
    let mut odd = Client::new(&site).await;
    odd.0.write_all(b"\x16\x03\x01\x00 GET /images/\r\n\r\n").await.unwrap();
    let _idle = Client::new(&site).await;
    site.stop.cancel();
    timeout(Duration::from_secs(8), site.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_is_never_sent_as_the_old_one() {
    let site = site().await;
    // A small file: in memory, and looked at again after a second.
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: site\r\n{more}\r\n");
    let mut client = Client::new(&site).await;
    let path = site.dir.path().join("boot/ipxe.efi");
    let tag = |head: &str| head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_owned();
    let (head, _) = client.ask(&get("/boot/ipxe.efi", "")).await;
    let old = tag(&head);
    std::fs::write(&path, "other").unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let (head, body) = client.ask(&get("/boot/ipxe.efi", &format!("If-Range: {old}\r\nRange: bytes=2-\r\n"))).await;
    assert!(head.starts_with("http/1.1 200") && body == b"other" && tag(&head) != old, "{head}");
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(client.ask(&get("/boot/ipxe.efi", "")).await.0.starts_with("http/1.1 404"));

    // A large one that becomes shorter: the connection ends before the announced length.
    let mut client = Client::new(&site).await;
    client.0.write_all(get(&site.path, "").as_bytes()).await.unwrap();
    // The client takes nothing yet, so that the rest is still to be read.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let file = std::fs::OpenOptions::new().write(true).open(site.dir.path().join(&site.path[1..])).unwrap();
    file.set_len(4_900_000).unwrap();
    let mut all = Vec::new();
    let ended = timeout(Duration::from_secs(10), client.0.read_to_end(&mut all)).await.unwrap();
    assert!(ended.is_err() || all.len() < site.image.len(), "{}", all.len());
    site.stop.cancel();
    timeout(Duration::from_secs(8), site.serving).await.unwrap().unwrap().unwrap();
}
