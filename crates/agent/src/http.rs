//! A small HTTP/1.1 client: blocking, one connection a request; plain for what is checked by its digest, TLS for all else. A read that stays silent too long is an error,
//! so that a stalled transfer of any length is noticed.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_mins(1);
/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// How the site is talked to over TLS.
pub struct Secure<'a> {
    /// Whose certificate is expected, and which one is shown.
    pub config: &'a Arc<ClientConfig>,
    /// Bearer token.
    pub token: &'a str,
}

/// A request.
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Whole URL. The token goes along with `https` only.
    pub url: &'a str,
    /// For `https`.
    pub secure: Option<Secure<'a>>,
    /// First and, if given, last byte wanted.
    pub range: Option<(u64, Option<u64>)>,
    /// JSON body.
    pub body: Option<&'a [u8]>,
}

/// An answer; its body is read from it.
pub struct Response {
    /// Status.
    pub status: u16,
    headers: Vec<(String, String)>,
    reader: BufReader<Stream>,
    framing: Framing,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buffer),
            Self::Tls(s) => s.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(bytes),
            Self::Tls(s) => s.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::Tls(s) => s.flush(),
        }
    }
}

enum Framing {
    Length(u64),
    /// Bytes left of this chunk, and whether the last one was seen.
    Chunked(u64, bool),
    UntilClose,
}

fn bad(words: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words.into())
}

/// Whether a URL is of TLS, its host with port, and its path.
pub fn split(url: &str) -> io::Result<(bool, String, &str)> {
    let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(bad("only http and https URLs are known")),
    };
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if host.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("not a URL"));
    }
    let port = host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
    let default = if tls { 443 } else { 80 };
    Ok((tls, if port { host.to_owned() } else { format!("{host}:{default}") }, path))
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => host.to_socket_addrs()?.collect(),
    };
    let mut last = bad(format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Sends a request and reads the head of the answer.
pub fn send(request: &Request<'_>) -> io::Result<Response> {
    let (tls, host, path) = split(request.url)?;
    let tcp = connect(&host)?;
    tcp.set_read_timeout(Some(SILENCE))?;
    tcp.set_write_timeout(Some(SILENCE))?;
    let mut token = None;
    let mut stream = match (&request.secure, tls) {
        (_, false) => Stream::Plain(tcp),
        (None, true) => return Err(bad("this agent knows no certificate for https URLs")),
        (Some(secure), true) => {
            token = Some(secure.token);
            let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
            let name = ServerName::try_from(name.to_owned()).map_err(|e| bad(format!("{name}: {e}")))?;
            let connection = ClientConnection::new(secure.config.clone(), name).map_err(io::Error::other)?;
            Stream::Tls(Box::new(StreamOwned::new(connection, tcp)))
        }
    };
    let mut head = format!("{} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method);
    head.push_str(concat!("User-Agent: steelyard-agent/", env!("CARGO_PKG_VERSION"), "\r\n"));
    if let Some(token) = token {
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    match request.range {
        Some((first, Some(last))) => head.push_str(&format!("Range: bytes={first}-{last}\r\n")),
        Some((first, None)) => head.push_str(&format!("Range: bytes={first}-\r\n")),
        None => {}
    }
    if let Some(body) = request.body {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    } else if request.method == "POST" {
        head.push_str("Content-Length: 0\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if let Some(body) = request.body {
        stream.write_all(body)?;
    }
    stream.flush()?;
    let mut reader = BufReader::with_capacity(128 * 1024, stream);
    let (status, headers) = read_head(&mut reader)?;
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let framing = if status == 204 || status == 304 {
        Framing::Length(0)
    } else if header("transfer-encoding").is_some_and(|v| v.to_lowercase().contains("chunked")) {
        Framing::Chunked(0, false)
    } else if let Some(length) = header("content-length") {
        Framing::Length(length.trim().parse().map_err(|_| bad("the answer's length is not a number"))?)
    } else {
        Framing::UntilClose
    };
    Ok(Response { status, headers, reader, framing })
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        reader.take((MAX_HEAD - head.len()) as u64).read_until(b'\n', &mut head)?;
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
        if head.len() == before || head.len() >= MAX_HEAD {
            return Err(bad("the answer's head is cut off or too long"));
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    answer.parse(&head).map_err(|e| bad(format!("the answer is not HTTP: {e}")))?;
    let status = answer.code.ok_or_else(|| bad("the answer has no status"))?;
    let headers =
        answer.headers.iter().map(|h| (h.name.to_lowercase(), String::from_utf8_lossy(h.value).into_owned())).collect();
    Ok((status, headers))
}

impl Response {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The whole body; longer than `limit` is an error.
    pub fn bytes(mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        (&mut self).take(limit as u64 + 1).read_to_end(&mut all)?;
        if all.len() > limit { Err(bad("the answer is too long")) } else { Ok(all) }
    }

    fn chunk_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.reader).take(1024).read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked(0, false) = self.framing {
            let line = self.chunk_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk's length is not a number"))?;
            self.framing = Framing::Chunked(size, size == 0);
        }
        let left = match self.framing {
            Framing::Length(left) | Framing::Chunked(left, _) => left,
            Framing::UntilClose => u64::MAX,
        };
        let most = Ord::min(left, buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let got = self.reader.read(&mut buffer[..most])?;
        match &mut self.framing {
            Framing::UntilClose => {}
            _ if got == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::Length(left) => *left -= got as u64,
            Framing::Chunked(left, _) => {
                *left -= got as u64;
                if *left == 0 {
                    self.chunk_line()?;
                }
            }
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use std::net::TcpListener;

    use super::*;

    fn answer(text: &'static str) -> io::Result<Response> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = [0; 1024];
            let _ = stream.read(&mut seen);
            stream.write_all(text.as_bytes()).unwrap();
        });
        let response = send(&Request { method: "GET", url: &url, secure: None, range: None, body: None });
        thread.join().unwrap();
        response
    }

    #[test]
    fn bodies_in_all_framings() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
        ] {
            let response = answer(text).unwrap();
            assert_eq!(response.status, 200);
            assert_eq!(response.bytes(100).unwrap(), b"hello", "{text}");
        }
    }

    #[test]
    fn cut_answers_are_errors() {
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").unwrap().bytes(100).is_err());
        assert!(answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhe").unwrap().bytes(100).is_err());
        assert!(answer("HTTP/1.1 200").is_err());
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap().bytes(4).is_err());
    }

    #[test]
    fn urls() {
        assert_eq!(split("http://192.0.2.1:8090/a/b").unwrap(), (false, "192.0.2.1:8090".into(), "/a/b"));
        assert_eq!(split("http://site").unwrap(), (false, "site:80".into(), "/"));
        assert_eq!(split("https://site/x").unwrap(), (true, "site:443".into(), "/x"));
        for wrong in ["ftp://a", "http:///x", "http://a/b c"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
