//! The UDP side of TFTP: one listener, and one socket (transfer id) a transfer.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Content, ErrorCode, Options, Packet, Source};

/// Configuration of the TFTP server.
#[derive(Clone, Debug)]
pub struct TftpConfig {
    /// Where to listen; port 69 in production.
    pub bind: SocketAddr,
    /// Largest block; 1,468 fits an Ethernet frame, and fragments are what firmware loses first.
    pub max_blksize: u16,
    /// Most blocks in flight.
    pub max_windowsize: u16,
    /// First wait for an acknowledgement where the client names none; doubled after each retransmission.
    pub retransmit: Duration,
    /// Retransmissions without progress before giving up.
    pub retries: u32,
    /// Longest transfer.
    pub deadline: Duration,
    /// Transfers at a time; requests beyond are passed over and the client asks again.
    pub max_sessions: usize,
}

impl TftpConfig {
    /// Usual limits.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            max_blksize: 1468,
            max_windowsize: 64,
            retransmit: Duration::from_secs(1),
            retries: 5,
            deadline: Duration::from_mins(10),
            max_sessions: 512,
        }
    }
}

/// Longest wait for one acknowledgement.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

type Peers = Arc<Mutex<HashSet<SocketAddr>>>;

/// Takes a peer off the list of running transfers, however its task ends.
struct Running(Peers, SocketAddr);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// A TFTP server.
pub struct TftpServer {
    config: TftpConfig,
    socket: UdpSocket,
    source: Arc<Source>,
    peers: Peers,
}

impl TftpServer {
    /// Open the socket.
    pub async fn bind(config: TftpConfig, source: Source) -> io::Result<Self> {
        let socket = UdpSocket::bind(config.bind).await.map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("TFTP cannot listen on {}: {e}; is the port taken or below 1024?", config.bind),
            )
        })?;
        Ok(Self { config, socket, source: Arc::new(source), peers: Peers::default() })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serve until shutdown; running transfers are dropped then.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut buffer = vec![0u8; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => break,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, peer)) => self.request(buffer.get(..len).unwrap_or_default(), peer, &tasks, &shutdown).await,
                Err(error) => {
                    tracing::debug!(%error, "TFTP receive");
                    time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn request(&self, bytes: &[u8], peer: SocketAddr, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let refusal = match Packet::parse(bytes) {
            Ok(Packet::Read { file, mode, options }) if mode == "octet" => {
                return self.start(file, options, peer, tasks, shutdown);
            }
            Ok(Packet::Read { mode, .. }) => {
                tracing::debug!(%peer, mode, "TFTP mode refused");
                Packet::Error(ErrorCode::Illegal as u16, "only mode octet is served".into())
            }
            Ok(Packet::Write) => Packet::Error(ErrorCode::AccessViolation as u16, "this server is read-only".into()),
            // An error is never answered, and the rest does not belong at this port.
            _ => return,
        };
        let _ = self.socket.send_to(&refusal.encode(), peer).await;
    }

    fn start(
        &self,
        file: String,
        options: Options,
        peer: SocketAddr,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if peers.len() >= self.config.max_sessions {
                return tracing::warn!(%peer, "TFTP request passed over: too many transfers at once");
            }
            // A repeated request belongs to the running transfer, which repeats its first packet itself.
            if !peers.insert(peer) {
                return;
            }
        }
        let running = Running(self.peers.clone(), peer);
        let (config, source, shutdown) = (self.config.clone(), self.source.clone(), shutdown.clone());
        let local = self.local_addr().map_or(config.bind.ip(), |a| a.ip());
        tasks.spawn(async move {
            let _running = running;
            let transfer = transfer(&config, &source, SocketAddr::new(local, 0), peer, &file, &options);
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = time::timeout(config.deadline, transfer) => result,
            };
            match result {
                Ok(Ok(bytes)) => tracing::debug!(%peer, file, bytes, "TFTP sent"),
                Ok(Err(error)) => tracing::info!(%peer, file, %error, "TFTP transfer failed"),
                Err(_) => tracing::info!(%peer, file, "TFTP transfer took too long"),
            }
        });
    }
}

async fn transfer(
    config: &TftpConfig,
    source: &Source,
    local: SocketAddr,
    peer: SocketAddr,
    file: &str,
    asked: &Options,
) -> io::Result<u64> {
    let socket = UdpSocket::bind(local).await?;
    socket.connect(peer).await?;
    let content = match source.open(file).await {
        Ok(content) => content,
        Err(error) => {
            let (code, words) = match error.kind() {
                io::ErrorKind::NotFound => (ErrorCode::NotFound, "no such file"),
                io::ErrorKind::PermissionDenied => (ErrorCode::AccessViolation, "not allowed"),
                _ => (ErrorCode::Undefined, "the file cannot be read"),
            };
            socket.send(&Packet::Error(code as u16, words.into()).encode()).await?;
            return Err(error);
        }
    };
    let agreed = Options {
        blksize: asked.blksize.map(|b| b.min(config.max_blksize)),
        timeout: asked.timeout,
        tsize: asked.tsize.map(|_| content.len()),
        windowsize: asked.windowsize.map(|w| w.min(config.max_windowsize)),
    };
    let mut sender = Sender {
        wait: agreed.timeout.map_or(config.retransmit, |t| Duration::from_secs(t.into())),
        blksize: usize::from(agreed.blksize.unwrap_or(512)),
        window: u64::from(agreed.windowsize.unwrap_or(1)),
        retries: config.retries,
        socket,
        content,
    };
    sender.run((!agreed.is_empty()).then_some(agreed)).await
}

struct Sender {
    socket: UdpSocket,
    content: Content,
    blksize: usize,
    window: u64,
    wait: Duration,
    retries: u32,
}

impl Sender {
    /// Send all; the number of bytes of the file.
    async fn run(&mut self, agreed: Option<Options>) -> io::Result<u64> {
        // The last block is shorter than the others, if need be empty.
        let last = self.content.len() / self.blksize as u64 + 1;
        // Highest block acknowledged; block numbers on the wire are its low 16 bits. The OACK counts as block 0.
        let mut acked = 0u64;
        let mut oack = agreed;
        let mut silent = 0;
        // For windows: an acknowledgement that repeats asks for the window again, but once only.
        let mut repeated = false;
        loop {
            let end = (acked + self.window).min(last);
            if let Some(options) = &oack {
                self.socket.send(&Packet::OptionAck(options.clone()).encode()).await?;
            } else {
                self.send_window(acked + 1, end).await?;
            }
            let until = Instant::now() + self.wait.saturating_mul(1 << silent.min(4)).min(LONGEST_WAIT.max(self.wait));
            loop {
                match self.ack(until).await? {
                    None => {
                        silent += 1;
                        if silent > self.retries {
                            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client fell silent"));
                        }
                        break;
                    }
                    Some(0) if oack.is_some() => {
                        (oack, silent) = (None, 0);
                        break;
                    }
                    // Anything else before the OACK is acknowledged is stray.
                    Some(_) if oack.is_some() => {}
                    Some(number) => {
                        let ahead = u64::from(number.wrapping_sub(acked as u16));
                        if ahead > 0 && ahead <= end - acked {
                            acked += ahead;
                            if acked == last {
                                return Ok(self.content.len());
                            }
                            (silent, repeated) = (0, false);
                            break;
                        }
                        // With a window of one, answering a repeated ACK would double every packet from there on
                        // (RFC 1123, section 4.2.3.1).
                        if ahead == 0 && self.window > 1 && !repeated {
                            repeated = true;
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn send_window(&mut self, first: u64, last: u64) -> io::Result<()> {
        let mut offset = (first - 1) * self.blksize as u64;
        for block in first..=last {
            let data = self.content.read_at(offset, self.blksize).await?;
            offset += data.len() as u64;
            self.socket.send(&Packet::Data(block as u16, data).encode()).await?;
        }
        Ok(())
    }

    /// The next ACK; `None` when the time is over.
    async fn ack(&self, until: Instant) -> io::Result<Option<u16>> {
        let mut buffer = [0u8; 1024];
        loop {
            let Ok(received) = time::timeout_at(until, self.socket.recv(&mut buffer)).await else { return Ok(None) };
            match Packet::parse(buffer.get(..received?).unwrap_or_default()) {
                Ok(Packet::Ack(block)) => return Ok(Some(block)),
                Ok(Packet::Error(code, message)) => {
                    return Err(io::Error::other(format!("the client stopped it: error {code} {message:?}")));
                }
                _ => {}
            }
        }
    }
}
