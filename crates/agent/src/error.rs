//! What stops the agent.

use std::fmt;

/// Why a task ends.
#[derive(Debug)]
pub enum Error {
    /// The site refuses the token: the boot session is over, and nothing may be changed any more.
    Dead,
    /// Anything else, in words.
    Failed(String),
}

/// Of the agent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => f.write_str("the site refuses the token: the boot session is over"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(words: String) -> Self {
        Self::Failed(words)
    }
}

impl From<&str> for Error {
    fn from(words: &str) -> Self {
        Self::Failed(words.to_owned())
    }
}

/// Says what was being done when something failed.
pub trait Words<T> {
    /// The error with these words before it.
    fn words(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Words<T> for std::result::Result<T, E> {
    fn words(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Failed(format!("{}: {e}", what())))
    }
}
