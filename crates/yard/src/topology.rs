//! What stands where: racks, leaf pairs, spines, links, and the identity of every device. A pure function of the settings.

use std::net::Ipv4Addr;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    YardError,
    config::{BootMode, YardConfig},
    hardware::{MODELS, Model},
};

/// Number of server ports of a leaf: `swp1` to `swp48`. Uplinks follow.
pub const SERVER_PORTS: usize = 48;

/// A network port of a server and its cable.
#[derive(Clone, Debug)]
pub struct Nic {
    /// MAC address.
    pub mac: [u8; 6],
    /// Index of the leaf at the other end.
    pub switch: usize,
    /// Port number there (`swpN`).
    pub port: usize,
}

/// The unchanging facts of a server.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Position in the datacenter, from 0.
    pub index: usize,
    /// Serial number.
    pub serial: String,
    /// Place as a name, `rack1-u05`.
    pub name: String,
    /// UUID of the main board.
    pub uuid: uuid::Uuid,
    /// Hardware.
    pub model: &'static Model,
    /// How its firmware boots from the network.
    pub boot_mode: BootMode,
    /// Rack, from 1.
    pub rack: usize,
    /// Address of the BMC.
    pub bmc: Ipv4Addr,
    /// MAC address of the BMC.
    pub bmc_mac: [u8; 6],
    /// Network ports.
    pub nics: Vec<Nic>,
}

/// Role of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Top of rack.
    Leaf,
    /// Between the leaves.
    Spine,
}

/// What a switch port is cabled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Network port `nic` of server `server`.
    Server {
        /// Index of the server.
        server: usize,
        /// Index of its port.
        nic: usize,
    },
    /// Port of another switch.
    Switch {
        /// Index of the switch.
        switch: usize,
        /// Its port number.
        port: usize,
    },
}

/// The unchanging facts of a switch.
#[derive(Clone, Debug)]
pub struct SwitchSpec {
    /// Position: leaves first, then spines.
    pub index: usize,
    /// `leaf1`, `spine1`.
    pub hostname: String,
    /// Role.
    pub role: Role,
    /// Serial number.
    pub serial: String,
    /// Base MAC address.
    pub mac: [u8; 6],
    /// Management address.
    pub address: Ipv4Addr,
    /// Address of its DHCP relay (leaves only).
    pub relay: Option<Ipv4Addr>,
    /// Number of front ports.
    pub ports: usize,
    /// Peers by port number, index 0 unused.
    pub peers: Vec<Option<Peer>>,
}

/// The whole datacenter.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Servers by index.
    pub servers: Vec<ServerSpec>,
    /// Switches by index.
    pub switches: Vec<SwitchSpec>,
    /// Number of leaves; the switches after them are spines.
    pub leaves: usize,
}

/// MAC address in lower case with colons.
pub fn mac_text(mac: &[u8; 6]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn offset(base: Ipv4Addr, index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base).wrapping_add(index as u32))
}

/// MAC address of a switch port; port 0 is the switch itself.
pub fn switch_mac(switch: usize, port: usize) -> [u8; 6] {
    let low = (0x10_0000 + switch * 1024 + port) as u32;
    [0x44, 0x38, 0x39, (low >> 16) as u8, (low >> 8) as u8, low as u8]
}

/// Letters and digits of a number in base 36, `width` long.
fn base36(mut number: u64, width: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHJKLMNPQRSTUVWXYZIO";
    let mut text = vec!['0'; width];
    for place in text.iter_mut().rev() {
        *place = char::from(DIGITS[(number % 36) as usize]);
        number /= 36;
    }
    text.into_iter().collect()
}

/// `count` items shared out by weight (largest remainder) and then shuffled, so that small datacenters keep the mix too.
fn shares<T: Copy>(items: &[(T, usize)], count: usize, rng: &mut StdRng) -> Vec<T> {
    let total = items.iter().map(|(_, weight)| weight).sum::<usize>().max(1);
    let mut quota: Vec<(usize, usize, T)> =
        items.iter().map(|&(item, weight)| (weight * count / total, weight * count % total, item)).collect();
    let missing = count - quota.iter().map(|(whole, ..)| whole).sum::<usize>();
    let mut order: Vec<usize> = (0..quota.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(quota[i].1));
    for &i in order.iter().cycle().take(missing) {
        quota[i].0 += 1;
    }
    let mut list: Vec<T> = quota.iter().flat_map(|&(n, _, item)| std::iter::repeat_n(item, n)).collect();
    list.shuffle(rng);
    list
}

impl Topology {
    /// Builds the datacenter. Errors name the setting that does not fit.
    pub fn build(config: &YardConfig) -> Result<Self, YardError> {
        config.validate()?;
        let mut rng = StdRng::seed_from_u64(config.seed);
        let pairs = config.servers.div_ceil(config.rack_size).max(config.leaves.div_ceil(2));
        // Servers fill the racks evenly, so that no configured leaf stays empty.
        let per_rack = config.servers.div_ceil(pairs);
        let leaves = pairs * 2;

        let models: Vec<(&'static Model, usize)> = if config.models.is_empty() {
            MODELS.iter().map(|model| (model, model.weight)).collect()
        } else {
            config
                .models
                .iter()
                .map(|key| {
                    MODELS.iter().find(|model| model.key == key).map(|model| (model, model.weight)).ok_or_else(|| {
                        let known: Vec<_> = MODELS.iter().map(|model| model.key).collect();
                        YardError::Config(format!("models names {key:?}; known are {}", known.join(", ")))
                    })
                })
                .collect::<Result<_, _>>()?
        };
        let models = shares(&models, config.servers, &mut rng);
        let modes: Vec<(BootMode, usize)> = config.boot_modes.iter().map(|&mode| (mode, 1)).collect();
        let modes = shares(&modes, config.servers, &mut rng);

        let mut switches: Vec<SwitchSpec> = (0..leaves + config.spines)
            .map(|index| {
                let leaf = index < leaves;
                let number = if leaf { index + 1 } else { index - leaves + 1 };
                let ports = if leaf { SERVER_PORTS + 8 } else { leaves.max(64) };
                SwitchSpec {
                    index,
                    hostname: format!("{}{number}", if leaf { "leaf" } else { "spine" }),
                    role: if leaf { Role::Leaf } else { Role::Spine },
                    serial: format!("MT{:04}X{:05}", 2300 + config.seed % 100, index + 1),
                    mac: switch_mac(index, 0),
                    address: offset(config.switch_base, index),
                    relay: leaf.then(|| offset(config.relay_base, index)),
                    ports,
                    peers: vec![None; ports + 1],
                }
            })
            .collect();
        for leaf in 0..leaves {
            for spine in 0..config.spines {
                let (up, down) = (SERVER_PORTS + 1 + spine, leaf + 1);
                switches[leaf].peers[up] = Some(Peer::Switch { switch: leaves + spine, port: down });
                switches[leaves + spine].peers[down] = Some(Peer::Switch { switch: leaf, port: up });
            }
        }

        let servers = (0..config.servers)
            .map(|index| {
                let (pair, slot) = (index / per_rack, index % per_rack);
                let model = models[index];
                // Multiplication by a number without common factors with 36^6 keeps serial numbers unique.
                let scrambled =
                    (index as u64 * 1_000_003 + config.seed.wrapping_mul(7919) % 1_000_000_007) % 36_u64.pow(6);
                let serial = match model.vendor.manufacturer().as_bytes().first() {
                    Some(b'D') => format!("D{}", base36(scrambled, 6)),
                    Some(b'H') => format!("CZ2D{}", base36(scrambled, 6)),
                    Some(b'S') => format!("S5{}", base36(scrambled, 6)),
                    _ => format!("NV{}", base36(scrambled, 6)),
                };
                let oui = model.vendor.oui();
                let mac = |n: usize| {
                    let low = (index * 4 + n) as u32 + ((config.seed as u32 & 0x3f) << 18);
                    [oui[0], oui[1], oui[2], (low >> 16) as u8, (low >> 8) as u8, low as u8]
                };
                let nics = (0..config.nics)
                    .map(|n| Nic { mac: mac(n), switch: pair * 2 + n, port: slot + 1 })
                    .collect::<Vec<_>>();
                for (n, nic) in nics.iter().enumerate() {
                    switches[nic.switch].peers[nic.port] = Some(Peer::Server { server: index, nic: n });
                }
                ServerSpec {
                    index,
                    serial,
                    name: format!("rack{}-u{:02}", pair + 1, slot + 1),
                    uuid: uuid::Builder::from_random_bytes(rng.random()).into_uuid(),
                    model,
                    boot_mode: modes[index],
                    rack: pair + 1,
                    bmc: offset(config.bmc_base, index),
                    bmc_mac: mac(3),
                    nics,
                }
            })
            .collect();
        Ok(Self { servers, switches, leaves })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn same_seed_same_datacenter_and_everything_is_unique() {
        let config = YardConfig { servers: 10_000, ..YardConfig::default() };
        let (a, b) = (Topology::build(&config).unwrap(), Topology::build(&config).unwrap());
        assert_eq!(format!("{:?}", a.servers[4711]), format!("{:?}", b.servers[4711]));
        let serials: HashSet<_> = a.servers.iter().map(|s| &s.serial).collect();
        let macs: HashSet<_> = a.servers.iter().flat_map(|s| s.nics.iter().map(|n| n.mac).chain([s.bmc_mac])).collect();
        let switch_macs: HashSet<_> = a.switches.iter().map(|s| s.mac).collect();
        assert_eq!((serials.len(), macs.len()), (10_000, 30_000));
        assert_eq!(switch_macs.len(), a.switches.len());
        assert_eq!(a.leaves, 626);
    }

    #[test]
    fn both_ports_of_a_server_are_on_the_pair_of_its_rack() {
        let topology = Topology::build(&YardConfig { servers: 8, leaves: 4, ..YardConfig::default() }).unwrap();
        assert_eq!(topology.leaves, 4);
        let server = &topology.servers[5];
        assert_eq!((server.rack, server.nics[0].switch, server.nics[1].switch), (2, 2, 3));
        assert_eq!(server.nics[0].port, server.nics[1].port);
        let nic = &server.nics[1];
        assert_eq!(topology.switches[nic.switch].peers[nic.port], Some(Peer::Server { server: 5, nic: 1 }));
        // Half of a small datacenter is the most frequent model.
        assert_eq!(topology.servers.iter().filter(|s| s.model.key == "dell-r650").count(), 4);
        assert!(topology.servers.iter().any(|s| s.model.gpu.is_some()));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let error = Topology::build(&YardConfig { servers: 10_001, ..YardConfig::default() }).unwrap_err();
        assert!(error.to_string().contains("servers is 10001"), "{error}");
        let error = Topology::build(&YardConfig { models: vec!["vax".into()], ..YardConfig::default() }).unwrap_err();
        assert!(error.to_string().contains("vax"), "{error}");
    }
}
