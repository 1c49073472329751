//! Consoles: the text of the serial port, and the picture with keyboard and mouse.

pub mod rfb;
pub(crate) mod ssh;

use std::net::IpAddr;

use model::secret::Clear;
use tokio::sync::mpsc;

use crate::{BmcError, Driver, Power};

/// What is typed waits here while the line is slow.
pub(crate) const INPUTS: usize = 32;
/// What the server wrote waits here while nobody reads.
pub(crate) const OUTPUTS: usize = 32;

/// How a serial console is opened.
#[derive(Debug, Clone, Default)]
pub struct SerialWanted {
    /// SHA-256 (hex) of the only SSH host key that is accepted. `None`: that of the first contact.
    pub host_key: Option<String>,
    /// Ends the session that somebody else has: BMCs have one at a time.
    pub take_over: bool,
}

/// What goes to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Typed.
    Bytes(Vec<u8>),
    /// A break.
    Break,
    /// The window of whoever looks.
    Size {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
}

/// A serial console that is open. Who drops `input` closes it, and the BMC is told.
#[derive(Debug)]
pub struct Serial {
    /// By which way, in words.
    pub via: String,
    /// Whether a break can be sent.
    pub breaks: bool,
    /// SHA-256 (hex) of the SSH host key that was shown.
    pub host_key: Option<String>,
    /// To the server.
    pub input: mpsc::Sender<Input>,
    /// From the server. An error is the last; nothing more means that we closed it.
    pub output: mpsc::Receiver<Result<Vec<u8>, BmcError>>,
}

/// Where the picture is.
#[derive(Debug, Clone)]
pub struct Screen {
    /// By which way, in words.
    pub via: String,
    /// `host:port`.
    pub address: String,
    /// Password of VNC, where it wants one.
    pub password: Option<Clear>,
    /// The connection begins with TLS; with the fingerprint of its certificate where that is known.
    pub tls: Option<Option<String>>,
}

impl Driver {
    /// Opens the serial console.
    pub async fn serial(&self, wanted: &SerialWanted) -> Result<Serial, BmcError> {
        match self {
            Self::Redfish(d) => d.serial(wanted).await,
            Self::Ipmi(d) => d.serial(wanted.take_over).await,
        }
    }

    /// Where the picture is. A VNC server that is off is switched on, and gets a new password unless `known`, which was set before,
    /// still does.
    pub async fn screen(&self, known: Option<&Clear>) -> Result<Screen, BmcError> {
        match self {
            Self::Redfish(d) => d.screen(known).await,
            Self::Ipmi(d) => Err(BmcError::Unsupported {
                address: Power::address(d.as_ref()),
                what: "IPMI has no picture of the server's screen; use the serial console, or the BMC's own web page"
                    .into(),
            }),
        }
    }
}

/// `host:port` of another service at the same address.
pub(crate) fn beside(address: &str, port: u16) -> String {
    let bare = address.trim_matches(['[', ']']);
    let host = match bare.parse::<IpAddr>() {
        Ok(_) => bare,
        Err(_) => match address.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host.trim_matches(['[', ']']),
            _ => bare,
        },
    };
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn another_port_of_the_same_host() {
        assert_eq!(beside("10.0.0.7", 22), "10.0.0.7:22");
        assert_eq!(beside("10.0.0.7:8443", 22), "10.0.0.7:22");
        assert_eq!(beside("bmc-7.example:443", 22), "bmc-7.example:22");
        assert_eq!(beside("[fe80::1]:443", 22), "[fe80::1]:22");
        assert_eq!(beside("fe80::1", 22), "[fe80::1]:22");
    }
}
