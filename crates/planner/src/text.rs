//! A plan as text: for people, logs and tests.

use std::fmt;

use crate::{
    diff::{Change, Op, vlans_text},
    impact::StorageImpact,
    plan::{Allocation, Plan},
    storage::size_text,
};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do");
        }
        section(f, "changes", &self.changes)?;
        section(f, "takes", &self.allocations)?;
        section(f, "gives back", &self.releases)?;
        if self.instances.iter().any(|i| i.after.is_some()) {
            writeln!(f, "ports:")?;
            for (instance, port) in self
                .instances
                .iter()
                .filter_map(|i| Some((i, i.after.as_ref()?)))
                .flat_map(|(i, a)| a.ports.iter().map(move |p| (i, p)))
            {
                writeln!(
                    f,
                    "  {} {} -> device {} {}: {}",
                    instance.label,
                    port.interface,
                    port.device_id,
                    port.port,
                    vlans_text(&port.vlans)
                )?;
            }
            let outside = self.instances.iter().filter_map(|i| Some((i, i.after.as_ref()?)));
            for (instance, port) in outside.flat_map(|(i, a)| a.outside.iter().map(move |p| (i, p))) {
                writeln!(f, "  {} {} -> unmanaged fabric {}", instance.label, port.interface, port.fabric_id)?;
            }
        }
        if !self.partitions.is_empty() {
            writeln!(f, "partitions:")?;
            for p in &self.partitions {
                write!(f, "  {} 0x{:04x}", p.label, p.pkey)?;
                for m in &p.add {
                    write!(f, " +{} {}", m.guid, m.membership.as_str())?;
                }
                for guid in &p.remove {
                    write!(f, " -{guid}")?;
                }
                let end = if p.delete { " and goes" } else { "" };
                writeln!(f, "{end}{}", if p.unmanaged { " (done outside)" } else { "" })?;
            }
        }
        writeln!(f, "jobs:")?;
        for job in &self.jobs {
            write!(f, "  {} {}", job.key, job.function)?;
            if job.depends_on.is_empty() {
                writeln!(f)?;
            } else {
                writeln!(f, " after {}", job.depends_on.join(", "))?;
            }
        }
        let i = &self.impact;
        writeln!(
            f,
            "impact: {} on, {} off, {} installed, {} wiped ({} disks, {} GB), {} ports on {} switches, {} addresses \
             released, {} of others, {} s",
            i.servers_powered_on.len(),
            i.servers_powered_off.len(),
            i.servers_installed.len(),
            i.servers_wiped.len(),
            i.disks_erased,
            i.disks_erased_gb,
            i.switch_ports,
            i.devices.len(),
            i.addresses_released,
            i.other_tenants_affected,
            i.estimate_seconds
        )?;
        let s = &i.storage;
        if *s != StorageImpact::default() {
            writeln!(
                f,
                "storage: {} made ({} GiB), {} grown, {} deleted ({} GiB), {} hosts get access, {} lose it",
                s.made, s.made_gib, s.grown, s.deleted, s.deleted_gib, s.hosts_gained, s.hosts_lost
            )?;
        }
        section(f, "warnings", &self.warnings)
    }
}

fn section<T: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, items: &[T]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}:")?;
    items.iter().try_for_each(|item| writeln!(f, "  {item}"))
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.op {
            Op::Create => '+',
            Op::Edit => '~',
            Op::Delete => '-',
        };
        write!(f, "{sign} {} {}", self.object.kind, self.object.label)?;
        if self.op == Op::Edit {
            for change in self.fields.iter().filter(|c| c.field != "network_config") {
                write!(f, " {}: {} -> {}", change.field, change.before, change.after)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pkey { network_id, pkey } => write!(f, "network {network_id}: partition key 0x{pkey:04x}"),
            Self::Vlan { network_id, vlan } => write!(f, "network {network_id}: VLAN {vlan}"),
            Self::Subnet { network_id, subnet, gateway, .. } => {
                write!(f, "network {network_id}: {subnet}")?;
                gateway.map_or(Ok(()), |g| write!(f, " via {g}"))
            }
            Self::Server { instance_id, server_id } => write!(f, "instance {instance_id}: server {server_id}"),
            Self::Address { instance_id, network_id, address, prefix_len } => {
                write!(f, "instance {instance_id}: {address}/{prefix_len} in network {network_id}")
            }
            Self::Connection { instance_id, network_id, interface, device_id, port, tagged, .. } => write!(
                f,
                "instance {instance_id}: {interface} on device {device_id} {port} to network {network_id}{}",
                if *tagged { " tagged" } else { "" }
            ),
            Self::Storage { storage_id, key, size_bytes, .. } => {
                write!(f, "{key}: {} on storage {storage_id}", size_text(*size_bytes))
            }
            Self::OutsideConnection { instance_id, network_id, interface, fabric_id, tagged, .. } => write!(
                f,
                "instance {instance_id}: {interface} in unmanaged fabric {fabric_id} to network {network_id}{}",
                if *tagged { " tagged" } else { "" }
            ),
        }
    }
}
