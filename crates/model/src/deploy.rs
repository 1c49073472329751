//! Design versus deployed: the words that every deployable element carries.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl $name {
            /// The wire word.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $word),* } }
            /// From the wire word.
            pub fn parse(word: &str) -> Option<Self> { match word { $($word => Some(Self::$variant),)* _ => None } }
        }
    };
}

words! {
    /// What is deployed now.
    ServiceStatus {
        /// Designed, never deployed.
        Ordered = "ordered",
        /// Deployed.
        Active = "active",
        /// Deployed and deleted.
        Deleted = "deleted",
        /// Deployed and stopped.
        Stopped = "stopped",
        /// Deployed and suspended.
        Suspended = "suspended",
    }
}

words! {
    /// What the next deploy does with an element.
    DeployType {
        /// Make it.
        Create = "create",
        /// Change it.
        Edit = "edit",
        /// Remove it.
        Delete = "delete",
        /// Start it.
        Start = "start",
        /// Stop it.
        Stop = "stop",
        /// Suspend it.
        Suspend = "suspend",
    }
}

words! {
    /// How far that deploy is.
    DeployStatus {
        /// Not begun.
        NotStarted = "not_started",
        /// Going on.
        Ongoing = "ongoing",
        /// Done: the design is what is deployed.
        Finished = "finished",
    }
}
