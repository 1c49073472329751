//! Connections of machines. Large files go from the disk's cache to the network within the kernel, as other servers for many downloads do
//! it; everything else is the HTTP library's.

use std::{
    fs::File,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::disk;

/// Longest head of a request that is looked at here.
const HEAD: usize = 8 * 1024;
/// Time for the rest of a head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is given up.
const STALL: Duration = Duration::from_mins(10);
/// Bytes handed to the kernel at a time.
const PIECE: u64 = 512 * 1024;
/// Where large files are.
const FILES: [&str; 3] = ["/images/", "/boot/agent/", "/media/"];

/// A part of a file, in the extensions of a response whose body is the same.
#[derive(Clone)]
pub(super) struct Segment {
    pub file: Arc<File>,
    pub first: u64,
    pub count: u64,
}

/// Serve on a listener until shutdown; requests that run get 5 s to end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn(async move {
                    if let Err(error) = connection(stream, router, shutdown).await {
                        tracing::debug!(%from, error, "HTTP connection");
                    }
                });
            }
            // Of one connection, or for want of file descriptors: others end meanwhile.
            Err(error) => {
                tracing::debug!(%error, "HTTP accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tasks.close();
    let _ = timeout(Duration::from_secs(5), tasks.wait()).await;
    Ok(())
}

async fn connection(mut stream: TcpStream, router: Router, shutdown: CancellationToken) -> Result<(), String> {
    let words = |e: io::Error| e.to_string();
    // Answers are small or end in a part of a packet: neither waits for the client's acknowledgement.
    stream.set_nodelay(true).map_err(words)?;
    loop {
        let mut head = Vec::with_capacity(1024);
        let read = tokio::select! {
            read = read_head(&mut stream, &mut head) => read.map_err(words)?,
            () = shutdown.cancelled() => return Ok(()),
        };
        if !read {
            return Ok(());
        }
        let Some(request) = file_request(&head) else { return the_rest(head, stream, router, shutdown).await };
        let last = shutdown.is_cancelled() || closes(&request);
        let response = match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        answer(&mut stream, response, last).await?;
        if last {
            return Ok(());
        }
    }
}

/// The head of a request, or as much of it as came together with a longer one; `false` when the client has closed.
async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<bool> {
    if timeout(STALL, stream.read_buf(head)).await.map_err(io::Error::from)?? == 0 {
        return Ok(false);
    }
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD && FILES.iter().any(|f| gets(head, f)) {
        if timeout(HEAD_TIME, stream.read_buf(head)).await.map_err(io::Error::from)?? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether it begins, as far as it came, like a request for a path there.
fn gets(head: &[u8], path: &str) -> bool {
    let (method, rest) = head.split_at(head.len().min(4));
    b"GET ".starts_with(method) && rest.iter().zip(path.as_bytes()).all(|(a, b)| a == b)
}

/// A plain request for a file: complete, alone, without a body or anything else that is the library's to understand.
fn file_request(head: &[u8]) -> Option<Request<Body>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut fields);
    if parsed.parse(head).ok()? != httparse::Status::Complete(head.len())
        || (parsed.method, parsed.version) != (Some("GET"), Some(1))
    {
        return None;
    }
    let path = parsed.path.filter(|p| FILES.iter().any(|f| p.starts_with(f)))?;
    let mut request = Request::get(path);
    for field in &*parsed.headers {
        let special = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT];
        if special.iter().any(|s| field.name.eq_ignore_ascii_case(s.as_str())) {
            return None;
        }
        request = request.header(field.name, field.value);
    }
    request.body(Body::empty()).ok()
}

fn closes(request: &Request<Body>) -> bool {
    let said = request.headers().get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    said.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case("close"))
}

async fn answer(stream: &mut TcpStream, response: Response<Body>, last: bool) -> Result<(), String> {
    let words = |e: io::Error| e.to_string();
    let (mut parts, body) = response.into_parts();
    let segment = parts.extensions.remove::<Segment>();
    let small = match &segment {
        Some(_) => None,
        None => Some(to_bytes(body, usize::MAX).await.map_err(|e| e.to_string())?),
    };
    let length = segment.as_ref().map_or(0, |s| s.count) + small.as_ref().map_or(0, |b| b.len() as u64);
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut head = format!("HTTP/1.1 {}\r\ndate: {}\r\n", parts.status, httpdate::fmt_http_date(SystemTime::now()));
    if parts.status != StatusCode::NOT_MODIFIED {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    if last {
        head.push_str("connection: close\r\n");
    }
    let mut head = head.into_bytes();
    for (name, value) in &parts.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    if let Some(small) = small {
        head.extend_from_slice(&small);
    }
    // What follows goes into the same packet.
    let flags = if segment.is_some() { SendFlags::MORE } else { SendFlags::empty() } | SendFlags::NOSIGNAL;
    let mut rest = head.as_slice();
    while !rest.is_empty() {
        let sent = writing(stream, || Ok(send(&*stream, rest, flags)?)).await.map_err(words)?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    match segment {
        Some(segment) => send_file(stream, &segment).await.map_err(words),
        None => Ok(()),
    }
}

async fn writing<T>(stream: &TcpStream, work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    timeout(STALL, stream.async_io(Interest::WRITABLE, work)).await.map_err(io::Error::from)?
}

async fn send_file(stream: &TcpStream, segment: &Segment) -> io::Result<()> {
    let (mut at, end) = (segment.first, segment.first + segment.count);
    while at < end {
        let until = Ord::min(at + PIECE, end);
        // The kernel would wait for the disk, and with it everybody whom this thread serves.
        disk::warm(&segment.file, at, until).await;
        while at < until {
            let sent = writing(stream, || {
                let count = usize::try_from(until - at).unwrap_or(usize::MAX);
                match rustix::fs::sendfile(stream, &*segment.file, Some(&mut at), count) {
                    Ok(n) => Ok(n),
                    Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
                    Err(error) => Err(error.into()),
                }
            })
            .await?;
            if sent == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
            }
        }
    }
    Ok(())
}

/// The library serves this connection from here on; it begins with what was read of it.
async fn the_rest(head: Vec<u8>, stream: TcpStream, router: Router, shutdown: CancellationToken) -> Result<(), String> {
    let io = TokioIo::new(Again { read: head, at: 0, stream });
    let service = TowerToHyperService::new(router);
    let mut served = std::pin::pin!(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    result.map_err(|e| e.to_string())
}

/// A connection whose first bytes were read already.
struct Again {
    read: Vec<u8>,
    at: usize,
    stream: TcpStream,
}

impl AsyncRead for Again {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.read.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let some = rest.get(..Ord::min(rest.len(), buf.remaining())).unwrap_or_default();
        buf.put_slice(some);
        self.at += some.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Again {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_requests_for_files_are_taken() {
        let good = b"GET /images/ab?file=x HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n";
        let request = file_request(good).unwrap();
        assert_eq!((request.uri().path(), &request.headers()["range"]), ("/images/ab", &"bytes=0-".parse().unwrap()));
        assert!(!closes(&request));
        assert!(closes(&file_request(b"GET /media/a/b HTTP/1.1\r\nConnection: TE, Close\r\n\r\n").unwrap()));
        for other in [
            &b"GET /images/ab HTTP/1.1\r\nHost: a\r\n\r\nGET /"[..],
            b"GET /images/ab HTTP/1.1\r\nHost: a\r\n",
            b"GET /images/ab HTTP/1.0\r\n\r\n",
            b"HEAD /images/ab HTTP/1.1\r\n\r\n",
            b"GET /images/ab HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            b"GET /images/ab HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
            b"GET /boot/ipxe.efi HTTP/1.1\r\n\r\n",
            b"GET /images/ab\x01 HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
        ] {
            assert!(file_request(other).is_none(), "{}", String::from_utf8_lossy(other));
        }
        assert!(gets(b"GE", "/images/") && gets(b"GET /ima", "/images/") && gets(b"GET /images/a", "/images/"));
        assert!(!gets(b"GET /seed/", "/images/") && !gets(b"POST /", "/images/"));
    }
}
