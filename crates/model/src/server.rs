//! The server's status machine, as data.

use serde::{Deserialize, Serialize};

/// Status words of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ServerStatus {
    Registering,
    PendingRegistration,
    RegistrationIncomplete,
    Available,
    Unavailable,
    Used,
    UsedRegistering,
    UsedDiagnostics,
    CleaningRequired,
    Cleaning,
    UpdatingFirmware,
    Defective,
    RemovedFromRack,
    Decommissioned,
    Deleting,
}

use ServerStatus as S;

/// Which status may follow which, and who may ask for it. The whole machine is this table.
pub const TRANSITIONS: &[(ServerStatus, ServerStatus, By)] = &[
    (S::PendingRegistration, S::Registering, By::System),
    (S::Registering, S::Available, By::System),
    (S::Registering, S::Unavailable, By::System),
    (S::Registering, S::RegistrationIncomplete, By::System),
    (S::Registering, S::PendingRegistration, By::System),
    (S::RegistrationIncomplete, S::Registering, By::Anyone),
    (S::Unavailable, S::Registering, By::Anyone),
    (S::Available, S::Registering, By::Anyone),
    (S::Available, S::Used, By::System),
    (S::Available, S::Unavailable, By::Anyone),
    (S::Available, S::UpdatingFirmware, By::System),
    (S::Unavailable, S::Available, By::Anyone),
    (S::RegistrationIncomplete, S::Unavailable, By::Anyone),
    (S::Used, S::Cleaning, By::System),
    (S::Used, S::CleaningRequired, By::System),
    (S::Used, S::UsedRegistering, By::Anyone),
    (S::Used, S::UsedDiagnostics, By::Anyone),
    (S::UsedRegistering, S::Used, By::System),
    (S::Used, S::Defective, By::System),
    (S::UsedDiagnostics, S::Used, By::Anyone),
    (S::CleaningRequired, S::Cleaning, By::Anyone),
    (S::Cleaning, S::Available, By::System),
    (S::Cleaning, S::CleaningRequired, By::System),
    (S::UpdatingFirmware, S::Available, By::System),
    (S::Unavailable, S::UpdatingFirmware, By::System),
    (S::UpdatingFirmware, S::Unavailable, By::System),
    (S::Available, S::Defective, By::Anyone),
    (S::Unavailable, S::Defective, By::Anyone),
    (S::CleaningRequired, S::Defective, By::Anyone),
    (S::RegistrationIncomplete, S::Defective, By::Anyone),
    (S::Defective, S::Unavailable, By::Anyone),
    (S::Defective, S::CleaningRequired, By::Anyone),
    (S::RemovedFromRack, S::Defective, By::Anyone),
    (S::Defective, S::RemovedFromRack, By::Anyone),
    (S::Available, S::Decommissioned, By::Anyone),
    (S::Unavailable, S::Decommissioned, By::Anyone),
    (S::Defective, S::Decommissioned, By::Anyone),
    (S::RemovedFromRack, S::Decommissioned, By::Anyone),
    (S::RegistrationIncomplete, S::Decommissioned, By::Anyone),
];

/// Who may make a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Only the system itself.
    System,
    /// The system or an administrator.
    Anyone,
}

impl ServerStatus {
    /// All statuses.
    pub const ALL: &'static [Self] = &[
        S::Registering,
        S::PendingRegistration,
        S::RegistrationIncomplete,
        S::Available,
        S::Unavailable,
        S::Used,
        S::UsedRegistering,
        S::UsedDiagnostics,
        S::CleaningRequired,
        S::Cleaning,
        S::UpdatingFirmware,
        S::Defective,
        S::RemovedFromRack,
        S::Decommissioned,
        S::Deleting,
    ];

    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            S::Registering => "registering",
            S::PendingRegistration => "pending_registration",
            S::RegistrationIncomplete => "registration_incomplete",
            S::Available => "available",
            S::Unavailable => "unavailable",
            S::Used => "used",
            S::UsedRegistering => "used_registering",
            S::UsedDiagnostics => "used_diagnostics",
            S::CleaningRequired => "cleaning_required",
            S::Cleaning => "cleaning",
            S::UpdatingFirmware => "updating_firmware",
            S::Defective => "defective",
            S::RemovedFromRack => "removed_from_rack",
            S::Decommissioned => "decommissioned",
            S::Deleting => "deleting",
        }
    }

    /// From the wire word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == word)
    }

    /// Whether `next` may follow, asked for by `by`.
    pub fn may_become(self, next: Self, by: By) -> bool {
        self == next
            || TRANSITIONS
                .iter()
                .any(|(from, to, who)| *from == self && *to == next && (by == By::System || *who == By::Anyone))
    }

    /// Whether a tenant's data may be on it: nothing may wipe it except a deployed plan that says so.
    pub fn holds_tenant_data(self) -> bool {
        matches!(self, S::Used | S::UsedRegistering | S::UsedDiagnostics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_server_is_never_available_without_cleaning() {
        assert!(!S::Used.may_become(S::Available, By::System));
        assert!(!S::Defective.may_become(S::Used, By::System));
        assert!(S::Cleaning.may_become(S::Available, By::System));
        assert!(!S::Available.may_become(S::Used, By::Anyone));
    }

    #[test]
    fn words_round_trip() {
        for s in ServerStatus::ALL {
            assert_eq!(ServerStatus::parse(s.as_str()), Some(*s));
        }
    }
}
