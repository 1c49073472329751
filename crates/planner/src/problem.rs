//! What stands in the way of a plan, said so that a person or a form can act on it.

use model::Id;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object that a problem or a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// `infrastructure`, `server_instance_group`, `server_instance`, `logical_network`, `network_device`, `shared_drive`, `drive_group`,
    /// `file_share`, `bucket`.
    pub kind: String,
    /// Id.
    pub id: Id,
    /// Label.
    pub label: String,
}

impl ObjectRef {
    /// A new one.
    pub fn new(kind: &str, id: Id, label: &str) -> Self {
        Self { kind: kind.to_owned(), id, label: label.to_owned() }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// No plan can be made.
    Error,
    /// Worth knowing.
    Warning,
}

/// Kinds of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Code {
    InvalidField,
    ServerTypeMissing,
    OsTemplateMissing,
    NoFreeServer,
    NotEnoughNics,
    MissingCabling,
    PortInUse,
    UnknownNetwork,
    ForeignNetwork,
    NetworkDeleted,
    DuplicateConnection,
    TwoUntagged,
    TwoDefaultRoutes,
    RedundancyNotSupported,
    RedundancyConflict,
    VlanOutOfRange,
    VlanInUse,
    VlanPoolExhausted,
    PkeyOutOfRange,
    PkeyInUse,
    PkeyPoolExhausted,
    WrongFabric,
    SubnetOverlap,
    SubnetPoolExhausted,
    SubnetFull,
    SubnetInUse,
    NetworkInUse,
    UnknownFabric,
    FabricDisconnected,
    QuarantineVlanMissing,
    DuplicateHostname,
    DataLossNotAllowed,
    InstanceRowsMissing,
    NoGateway,
    AppliesToNewInstances,
    NetworkConfigNotRewritten,
    OtherTenantsAffected,
    StorageUnknown,
    StorageUnavailable,
    StorageUnreachable,
    StorageFull,
    StorageOvercommitted,
    StorageShrink,
    StorageMoved,
    StorageNotAttached,
    StorageAccessLost,
    BootFromSan,
}

impl Code {
    /// The wire word.
    pub fn word(self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(word)) => word,
            _ => format!("{self:?}"),
        }
    }
}

/// A value that, set in a field, makes the problem go away: what a one-click fix does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldPatch {
    /// Field of the object.
    pub field: String,
    /// New value.
    pub value: Value,
}

/// One problem or warning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanProblem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub object: ObjectRef,
    /// Field of the object; empty for the object as a whole.
    pub field: String,
    /// Kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// The fix as a change of one field, where there is such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<FieldPatch>,
}

impl PlanProblem {
    /// An error.
    pub fn error(
        object: ObjectRef,
        field: impl Into<String>,
        code: Code,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            object,
            field: field.into(),
            code,
            message: message.into(),
            fix: fix.into(),
            patch: None,
        }
    }

    /// A warning.
    pub fn warning(
        object: ObjectRef,
        field: impl Into<String>,
        code: Code,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(object, field, code, message, fix) }
    }

    /// With a one-click fix: this value in the problem's own field.
    pub fn with_patch(mut self, value: Value) -> Self {
        self.patch = Some(FieldPatch { field: self.field.clone(), value });
        self
    }
}

impl std::fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ", self.object.kind, self.object.label)?;
        if !self.field.is_empty() {
            write!(f, "{} ", self.field)?;
        }
        write!(f, "[{}]: {}", self.code.word(), self.message)?;
        if !self.fix.is_empty() {
            write!(f, " ({})", self.fix)?;
        }
        Ok(())
    }
}

/// Puts problems into their fixed order and removes repetitions.
pub(crate) fn tidy(problems: &mut Vec<PlanProblem>) {
    problems.sort_by(|a, b| {
        (&a.severity, &a.object, &a.field, a.code, &a.message).cmp(&(
            &b.severity,
            &b.object,
            &b.field,
            b.code,
            &b.message,
        ))
    });
    problems.dedup();
}
