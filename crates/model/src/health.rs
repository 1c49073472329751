//! The health of a server's hardware, as its BMC tells it.

use serde::{Deserialize, Serialize};

/// How well something is, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Nobody has said.
    #[default]
    Unknown,
    /// All well.
    Ok,
    /// Something needs a look.
    Warning,
    /// Something has failed.
    Critical,
}

impl HealthState {
    /// The word that we use everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// From that word; anything else is unknown.
    pub fn parse(word: &str) -> Self {
        match word {
            "ok" => Self::Ok,
            "warning" => Self::Warning,
            "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }

    /// Whether somebody should look.
    pub fn is_bad(self) -> bool {
        self >= Self::Warning
    }
}

/// A part that is not well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Its name, as the BMC has it.
    pub part: String,
    /// How bad.
    pub health: HealthState,
}

/// How a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// As a whole.
    pub state: HealthState,
    /// The parts that make it so, in order of their names.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Something that a BMC told of its own accord.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareEvent {
    /// When, as the BMC writes it.
    pub at: Option<String>,
    /// How bad.
    pub severity: HealthState,
    /// What, in the BMC's words.
    pub message: String,
    /// The id of the message, such as `IDRAC.2.8.FAN0001`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_last() {
        let all = [HealthState::Unknown, HealthState::Ok, HealthState::Warning, HealthState::Critical];
        assert!(all.is_sorted());
        for state in all {
            assert_eq!(HealthState::parse(state.as_str()), state);
        }
        assert!(!HealthState::Unknown.is_bad() && HealthState::Warning.is_bad());
    }
}
