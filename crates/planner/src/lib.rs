//! From a design to a plan: a pure function, without I/O, clock or chance.
//!
//! [`plan`] compares what an infrastructure shall be with what is deployed, chooses servers, VLANs, subnets, addresses
//! and switch ports, and orders the jobs that get there. The same input, in any order of its rows, gives the same plan.
//! [`validate`] and [`diff`] answer the designer's questions without allocating anything; [`connect_rules`] is the
//! table of what may be connected to what.

mod allocate;
mod diff;
mod fabric;
mod impact;
mod infiniband;
mod input;
mod jobs;
mod netplan;
mod place;
mod plan;
mod problem;
mod roster;
mod rules;
mod storage;
mod storage_boot;
mod storage_jobs;
mod storage_place;
mod takings;
mod text;
mod validate;
mod wiring;

pub use diff::{Change, FieldChange, Op, diff};
pub use impact::{DeviceImpact, Impact, StorageImpact};
pub use infiniband::{IbFabric, PartitionPlan, PartitionPort, PkeyStrategy};
pub use input::{
    Address, Cable, Fabric, Group, GroupConfig, Infrastructure, Instance, InstanceState, Interface, Ipv4Strategy,
    LogicalNetwork, NetworkAllocation, NetworkDesign, Options, OutsidePort, PlanInput, PortBinding, Server, Shutdown,
    SubnetAllocation, SubnetPool, Switch, SwitchLink, VlanStrategy,
};
pub use jobs::InfrastructureFinish;
pub use place::FABRIC_MTU;
pub use plan::{Allocation, InstancePlan, NetworkPlan, Plan, plan};
pub use problem::{Code, FieldPatch, ObjectRef, PlanProblem, Severity};
pub use roster::Action;
pub use rules::{ConnectRule, Effect, Element, connect_rules, rule};
pub use storage::{
    Affinity, BootVolume, CloneSource, ElementConfig, ElementKind, ElementState, GIB, ObjectState, Storage,
    StorageElement, StorageInput,
};
pub use storage_place::StoragePlan;
pub use validate::{MAX_INSTANCES, validate};
