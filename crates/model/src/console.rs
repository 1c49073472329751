//! Consoles of servers: what a site is asked for, and what both ends say besides the bytes.

use serde::{Deserialize, Serialize};

use crate::Id;

/// What kind of console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleKind {
    /// Text of a serial port.
    Serial,
    /// Picture, keyboard and mouse, as RFB (VNC) 3.8.
    Screen,
}

impl ConsoleKind {
    /// The word that we use everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Screen => "screen",
        }
    }

    /// Of its word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Serial, Self::Screen].into_iter().find(|k| k.as_str() == word)
    }
}

/// A viewer asks for a console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenConsole {
    /// Of which server.
    pub server_id: Id,
    /// Which one.
    pub kind: ConsoleKind,
    /// What the viewer types does not count.
    pub read_only: bool,
    /// Ends the serial session that somebody else has at the BMC.
    #[serde(default)]
    pub take_over: bool,
    /// The instance that holds the server now. What was written before for another one is not shown.
    pub instance_id: Option<Id>,
}

/// Said besides the bytes. The site says the first two, a viewer the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// The console is there.
    Ready {
        /// By which way, in words: `IPMI serial over LAN`.
        via: String,
        /// Whether a break can be sent.
        #[serde(default)]
        breaks: bool,
        /// All who look, this one included.
        viewers: u32,
    },
    /// Somebody came or went.
    Viewers {
        /// All who look.
        viewers: u32,
    },
    /// A break on the serial line.
    Break,
    /// The viewer's window.
    Size {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
}

/// What travels between a viewer and a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of the console, at most [`CHUNK`].
    Data(Vec<u8>),
    /// What is said besides.
    Control(Control),
    /// It is over, and why. The last one.
    End(String),
}

/// Bytes in one frame at most.
pub const CHUNK: usize = 32 << 10;

/// What a BMC says that it has, without one being opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The best way to the serial console: `SSH` or `IPMI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The way to the screen: `VNC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen: Option<String>,
}
