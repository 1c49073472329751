//! RFB (VNC, RFC 6143) as a relay needs it: the login at the BMC, the greeting of a viewer, and a filter on what a viewer says.
//!
//! The BMC's password ends here: a viewer, who was let in by us, is asked for none.

use std::{sync::Arc, time::Duration};

use crypto::tls::Shown;
use des::{
    Des,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Screen;
use crate::BmcError;

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Words of an error, at most.
const WORDS: usize = 500;
/// Largest text that a viewer may put into the server's clipboard.
const CUT_TEXT: usize = 64 << 10;
/// Most encodings that a viewer may name.
const ENCODINGS: usize = 256;

// Security types.
const NONE: u8 = 1;
const VNC: u8 = 2;
const VENCRYPT: u8 = 19;
/// Subtypes of VeNCrypt with a certificate. Those without one (anonymous keys) protect from nobody in between, and rustls has none.
const X509_NONE: u32 = 260;
const X509_VNC: u32 = 261;

/// Connects and logs in: what comes next is the viewer's `ClientInit`.
pub async fn connect(screen: &Screen, limit: Duration) -> Result<Box<dyn Stream>, BmcError> {
    let fail = |cause: String| BmcError::Unreachable { address: screen.address.clone(), cause };
    match timeout(limit, log_in(screen)).await {
        Err(_) => Err(fail("its VNC server does not answer in time".into())),
        Ok(done) => done,
    }
}

async fn log_in(screen: &Screen) -> Result<Box<dyn Stream>, BmcError> {
    let fail = |cause: String| BmcError::Unreachable { address: screen.address.clone(), cause };
    let io = |e: std::io::Error| fail(format!("VNC: {e}"));
    let tcp = TcpStream::connect(screen.address.as_str()).await.map_err(io)?;
    tcp.set_nodelay(true).map_err(io)?;
    let mut stream: Box<dyn Stream> = match &screen.tls {
        Some(pin) => encrypted(screen, Box::new(tcp), pin.as_deref()).await?,
        None => Box::new(tcp),
    };
    let mut hello = [0; 12];
    stream.read_exact(&mut hello).await.map_err(io)?;
    let minor = match &hello {
        b"RFB 003.003\n" | b"RFB 003.005\n" => 3,
        b"RFB 003.007\n" => 7,
        // Some say 3.889 or 4.000, and speak 3.8.
        [b'R', b'F', b'B', b' ', b'0', b'0', b'3' | b'4', b'.', ..] => 8,
        _ => return Err(fail("what answers there is no VNC server".into())),
    };
    stream.write_all(format!("RFB 003.00{minor}\n").as_bytes()).await.map_err(io)?;
    let offered: Vec<u8> = if minor == 3 {
        let kind = stream.read_u32().await.map_err(io)?;
        if kind == 0 { Vec::new() } else { vec![kind as u8] }
    } else {
        let count = stream.read_u8().await.map_err(io)?;
        let mut kinds = vec![0; usize::from(count)];
        stream.read_exact(&mut kinds).await.map_err(io)?;
        kinds
    };
    if offered.is_empty() {
        return Err(refused(screen, &words(&mut stream).await));
    }
    // Encrypted before clear, with a password before without.
    let can = |kind: u8| offered.contains(&kind) && (kind != VNC || screen.password.is_some());
    let Some(kind) = [VENCRYPT, VNC, NONE].into_iter().find(|kind| can(*kind)) else {
        return Err(BmcError::Unsupported {
            address: screen.address.clone(),
            what: format!("a login to VNC (it offers the security types {offered:?}, we know 1, 2 and 19)"),
        });
    };
    if minor != 3 {
        stream.write_all(&[kind]).await.map_err(io)?;
    }
    match kind {
        VENCRYPT => stream = vencrypt(screen, stream).await?,
        VNC => answer_challenge(screen, &mut stream).await?,
        _ => {}
    }
    if (minor == 8 || kind != NONE) && stream.read_u32().await.map_err(io)? != 0 {
        let why = if minor == 8 { words(&mut stream).await } else { String::new() };
        return Err(refused(
            screen,
            if why.is_empty() { "the password is wrong, or its sessions are all in use" } else { &why },
        ));
    }
    Ok(stream)
}

fn refused(screen: &Screen, why: &str) -> BmcError {
    BmcError::Refused { address: screen.address.clone(), request: "VNC".into(), status: 0, reason: why.to_owned() }
}

/// Why it refuses, as it says itself.
async fn words(stream: &mut Box<dyn Stream>) -> String {
    let Ok(length) = stream.read_u32().await else { return String::new() };
    let mut text = vec![0; Ord::min(length as usize, WORDS)];
    match stream.read_exact(&mut text).await {
        Ok(_) => String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).collect(),
        Err(_) => String::new(),
    }
}

async fn encrypted(screen: &Screen, stream: Box<dyn Stream>, pin: Option<&str>) -> Result<Box<dyn Stream>, BmcError> {
    let fail = |cause: String| BmcError::Unreachable { address: screen.address.clone(), cause };
    let shown = Arc::new(Shown::default());
    let mut tls = crypto::tls::device(pin, shown.clone()).map_err(|e| fail(e.to_string()))?;
    tls.alpn_protocols.clear();
    let host = screen.address.rsplit_once(':').map_or(screen.address.as_str(), |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|e| fail(e.to_string()))?;
    match tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(e) => Err(match (shown.refused(), pin) {
            (Some(shown), Some(pinned)) => {
                BmcError::CertificateChanged { address: screen.address.clone(), pinned: pinned.to_owned(), shown }
            }
            _ => fail(format!("TLS of VNC: {e}")),
        }),
    }
}

async fn vencrypt(screen: &Screen, mut stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, BmcError> {
    let io = |e: std::io::Error| BmcError::Unreachable { address: screen.address.clone(), cause: format!("VNC: {e}") };
    let unsupported = |what: &str| BmcError::Unsupported { address: screen.address.clone(), what: what.to_owned() };
    let _version = stream.read_u16().await.map_err(io)?;
    stream.write_all(&[0, 2]).await.map_err(io)?;
    if stream.read_u8().await.map_err(io)? != 0 {
        return Err(unsupported("VeNCrypt 0.2"));
    }
    let count = stream.read_u8().await.map_err(io)?;
    let mut offered = Vec::new();
    for _ in 0..count {
        offered.push(stream.read_u32().await.map_err(io)?);
    }
    let can = |kind: u32| offered.contains(&kind) && (kind != X509_VNC || screen.password.is_some());
    let kind = [X509_VNC, X509_NONE].into_iter().find(|kind| can(*kind)).ok_or_else(|| {
        unsupported("VNC over TLS with a certificate, the only kind that is safe; give its VNC server a certificate")
    })?;
    stream.write_all(&kind.to_be_bytes()).await.map_err(io)?;
    if stream.read_u8().await.map_err(io)? != 1 {
        return Err(refused(screen, "it refuses the kind of encryption that it offers"));
    }
    let mut stream = encrypted(screen, stream, None).await?;
    if kind == X509_VNC {
        answer_challenge(screen, &mut stream).await?;
    }
    Ok(stream)
}

async fn answer_challenge(screen: &Screen, stream: &mut Box<dyn Stream>) -> Result<(), BmcError> {
    let io = |e: std::io::Error| BmcError::Unreachable { address: screen.address.clone(), cause: format!("VNC: {e}") };
    let mut challenge = [0; 16];
    stream.read_exact(&mut challenge).await.map_err(io)?;
    let password = screen.password.as_ref().map(|p| p.0.as_bytes()).unwrap_or_default();
    stream.write_all(&response(password, challenge)).await.map_err(io)
}

/// The answer to a challenge (RFC 6143, 7.2.2): DES, with the bits of each byte of the key in reverse.
pub fn response(password: &[u8], challenge: [u8; 16]) -> [u8; 16] {
    let mut key = [0u8; 8];
    for (to, from) in key.iter_mut().zip(password) {
        *to = from.reverse_bits();
    }
    let cipher = Des::new(&Array(key));
    let mut out = [0; 16];
    for (to, from) in out.chunks_exact_mut(8).zip(challenge.chunks_exact(8)) {
        let mut block = [0u8; 8];
        block.copy_from_slice(from);
        let mut block = Array(block);
        cipher.encrypt_block(&mut block);
        to.copy_from_slice(&block);
    }
    out
}

/// What a viewer gets before the picture: version 3.8, no password.
#[derive(Debug, Default)]
pub struct Greeter {
    heard: Vec<u8>,
    step: u8,
}

/// What the greeting has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// To be sent to the viewer.
    Say(Vec<u8>),
    /// Over: `ClientInit`, to be passed on, and what the viewer has said since.
    Done {
        /// Others may look too.
        shared: u8,
        /// Messages.
        rest: Vec<u8>,
    },
}

impl Greeter {
    /// The first words.
    pub const HELLO: &'static [u8] = b"RFB 003.008\n";

    /// Hears the viewer.
    pub fn heard(&mut self, bytes: &[u8]) -> Result<Greeting, &'static str> {
        self.heard.extend_from_slice(bytes);
        let mut say = Vec::new();
        if self.step == 0 && self.heard.len() >= 12 {
            let version: Vec<u8> = self.heard.drain(..12).collect();
            if version != Self::HELLO {
                return Err("the viewer must speak RFB 3.8");
            }
            say.extend_from_slice(&[1, NONE]);
            self.step = 1;
        }
        if self.step == 1 && !self.heard.is_empty() {
            if self.heard.remove(0) != NONE {
                return Err("the viewer chose a kind of security that was not offered");
            }
            say.extend_from_slice(&[0; 4]);
            self.step = 2;
        }
        if self.step == 2 && !self.heard.is_empty() && say.is_empty() {
            let shared = self.heard.remove(0);
            self.step = 3;
            return Ok(Greeting::Done { shared, rest: std::mem::take(&mut self.heard) });
        }
        if self.heard.len() > 64 {
            return Err("the viewer says more than the greeting has");
        }
        Ok(Greeting::Say(say))
    }
}

/// Lets whole, known messages of a viewer through: a BMC hears nothing else.
#[derive(Debug)]
pub struct Filter {
    read_only: bool,
    held: Vec<u8>,
}

impl Filter {
    /// One that, for a viewer who may only look, leaves out keys, mouse and clipboard.
    pub fn new(read_only: bool) -> Self {
        Self { read_only, held: Vec::new() }
    }

    /// What of it goes on to the BMC.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.held.extend_from_slice(bytes);
        let mut passed = Vec::new();
        let mut at = 0;
        while let Some(length) = length(&self.held[at..])? {
            let message = &self.held[at..at + length];
            if !(self.read_only && matches!(message[0], 4..=6)) {
                passed.extend_from_slice(message);
            }
            at += length;
        }
        self.held.drain(..at);
        Ok(passed)
    }
}

/// Length of the message that begins here; `None` while it is not whole.
fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(kind) = bytes.first() else { return Ok(None) };
    let length = match kind {
        // Pixel format, request for an update, key, mouse.
        0 => 20,
        3 => 10,
        4 => 8,
        5 => 6,
        // Encodings.
        2 => match bytes.get(2..4) {
            Some(n) => {
                let count = usize::from(u16::from_be_bytes([n[0], n[1]]));
                if count > ENCODINGS {
                    return Err("the viewer names too many encodings");
                }
                4 + 4 * count
            }
            None => return Ok(None),
        },
        // Clipboard.
        6 => match bytes.get(4..8) {
            Some(n) => {
                let size = u32::from_be_bytes([n[0], n[1], n[2], n[3]]) as usize;
                if size > CUT_TEXT {
                    return Err("the viewer's clipboard is too large");
                }
                8 + size
            }
            None => return Ok(None),
        },
        _ => return Err("the viewer says something that is not understood"),
    };
    Ok((bytes.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use model::secret::Clear;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_challenge_is_answered_as_others_do() {
        // Worked with OpenSSL: des-ecb, the key's bits in reverse.
        let challenge: [u8; 16] = std::array::from_fn(|n| n as u8);
        let hex = |bytes: [u8; 16]| bytes.map(|b| format!("{b:02x}")).concat();
        assert_eq!(hex(response(b"secret12", challenge)), "adcd997f8e16fee575e973f93c2b62b4");
        assert_eq!(response(b"secret12", challenge), response(b"secret12 and more", challenge), "eight bytes count");
    }

    #[test]
    fn a_viewer_is_greeted_byte_by_byte() {
        let mut greeter = Greeter::default();
        let mut said = Vec::new();
        for byte in Greeter::HELLO.iter().chain(&[NONE]) {
            match greeter.heard(&[*byte]).unwrap() {
                Greeting::Say(more) => said.extend(more),
                Greeting::Done { .. } => panic!("too early"),
            }
        }
        assert_eq!(said, [1, 1, 0, 0, 0, 0]);
        assert_eq!(greeter.heard(&[1, 3, 0]).unwrap(), Greeting::Done { shared: 1, rest: vec![3, 0] });
        assert!(Greeter::default().heard(b"RFB 003.003\n").is_err());
        assert!(Greeter::default().heard(&[b"RFB 003.008\n".as_slice(), &[2]].concat()).is_err());
    }

    #[test]
    fn only_known_messages_pass() {
        let all = [
            &[0u8; 20][..],
            &[2, 0, 0, 1, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 9, 0, 9],
            &[4, 1, 0, 0, 0, 0, 0, b'a'],
            &[5, 0, 0, 1, 0, 1],
            &[6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'],
        ];
        let bytes = all.concat();
        for split in 0..bytes.len() {
            let mut filter = Filter::new(false);
            let mut passed = filter.pass(&bytes[..split]).unwrap();
            passed.extend(filter.pass(&bytes[split..]).unwrap());
            assert_eq!(passed, bytes, "split at {split}");
        }
        assert_eq!(Filter::new(true).pass(&bytes).unwrap(), all[..3].concat());
        assert!(Filter::new(false).pass(&[6, 0, 0, 0, 0xff, 0, 0, 0]).is_err());
        assert!(Filter::new(false).pass(&[2, 0, 0xff, 0xff]).is_err());
        assert!(Filter::new(false).pass(&[255]).is_err());
    }

    fn screen(address: String, password: Option<&str>) -> Screen {
        Screen { via: "VNC".into(), address, password: password.map(|p| Clear(p.into())), tls: None }
    }

    #[tokio::test]
    async fn older_versions_and_refusals() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let limit = Duration::from_secs(5);
        let serve = tokio::spawn(async move {
            // 3.3, without security.
            let (mut s, _) = listener.accept().await.unwrap();
            s.write_all(b"RFB 003.003\n\0\0\0\x01").await.unwrap();
            let mut read = [0; 13];
            s.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"RFB 003.003\n\x01");
            // 3.8 that has no free session.
            let (mut s, _) = listener.accept().await.unwrap();
            s.write_all(b"RFB 003.008\n\0\0\0\0\x05busy!").await.unwrap();
            s.read_exact(&mut read[..12]).await.unwrap();
            // Something else.
            let (mut s, _) = listener.accept().await.unwrap();
            s.write_all(b"SSH-2.0-OpenSSH_9\r\n").await.unwrap();
            // A password is wanted.
            let (mut s, _) = listener.accept().await.unwrap();
            s.write_all(b"RFB 003.008\n\x01\x02").await.unwrap();
            let _ = s.read(&mut read).await;
        });
        let mut stream = connect(&screen(address.clone(), None), limit).await.unwrap();
        stream.write_all(&[1]).await.unwrap();
        let error = connect(&screen(address.clone(), None), limit).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("busy!"), "{error}");
        let error = connect(&screen(address.clone(), None), limit).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("no VNC server"), "{error}");
        let error = connect(&screen(address, None), limit).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, BmcError::Unsupported { .. }), "{error}");
        serve.await.unwrap();
    }
}
