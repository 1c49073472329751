//! Models of servers in the mix, and what their firmware says about them.

/// Maker of a server. Decides resource names and habits of its BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Dell with iDRAC.
    Dell,
    /// Hewlett Packard Enterprise with iLO.
    Hpe,
    /// Supermicro.
    Supermicro,
    /// NVIDIA with an OpenBMC based controller.
    Nvidia,
}

impl Vendor {
    /// `Manufacturer` as the vendor's BMC spells it.
    pub fn manufacturer(self) -> &'static str {
        match self {
            Self::Dell => "Dell Inc.",
            Self::Hpe => "HPE",
            Self::Supermicro => "Supermicro",
            Self::Nvidia => "NVIDIA",
        }
    }

    /// Id of the one ComputerSystem.
    pub fn system_id(self) -> &'static str {
        match self {
            Self::Dell => "System.Embedded.1",
            Self::Hpe | Self::Supermicro => "1",
            Self::Nvidia => "System_0",
        }
    }

    /// Id of the one Manager.
    pub fn manager_id(self) -> &'static str {
        match self {
            Self::Dell => "iDRAC.Embedded.1",
            Self::Hpe | Self::Supermicro => "1",
            Self::Nvidia => "BMC_0",
        }
    }

    /// Id of the one Chassis.
    pub fn chassis_id(self) -> &'static str {
        match self {
            Self::Dell => "System.Embedded.1",
            Self::Hpe | Self::Supermicro => "1",
            Self::Nvidia => "Chassis_0",
        }
    }

    /// Product name of the manager.
    pub fn manager_model(self) -> &'static str {
        match self {
            Self::Dell => "16G Monolithic",
            Self::Hpe => "iLO 6",
            Self::Supermicro => "ASPEED",
            Self::Nvidia => "DGX H100 BMC",
        }
    }

    /// Firmware version of the manager.
    pub fn manager_firmware(self) -> &'static str {
        match self {
            Self::Dell => "7.10.50.00",
            Self::Hpe => "iLO 6 v1.58",
            Self::Supermicro => "01.03.16",
            Self::Nvidia => "24.09.17",
        }
    }

    /// Organisation part of MAC addresses.
    pub fn oui(self) -> [u8; 3] {
        match self {
            Self::Dell => [0xb0, 0x7b, 0x25],
            Self::Hpe => [0x94, 0x40, 0xc9],
            Self::Supermicro => [0x3c, 0xec, 0xef],
            Self::Nvidia => [0xb8, 0x3f, 0xd2],
        }
    }
}

/// A kind of disk in a model.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Model name.
    pub model: &'static str,
    /// Capacity in gigabytes (10^9).
    pub size_gb: u64,
    /// `nvme`, `ssd` or `hdd`.
    pub media: &'static str,
    /// How many.
    pub count: usize,
}

/// A graphics processor in a model.
#[derive(Clone, Copy, Debug)]
pub struct Gpu {
    /// Maker.
    pub vendor: &'static str,
    /// Model name.
    pub model: &'static str,
    /// Memory in mebibytes.
    pub memory_mib: u64,
    /// How many.
    pub count: usize,
}

/// One model of server.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Key in `YardConfig::models`.
    pub key: &'static str,
    /// Maker.
    pub vendor: Vendor,
    /// Model name as in Redfish.
    pub name: &'static str,
    /// Share of the mix.
    pub weight: usize,
    /// Processor model.
    pub cpu: &'static str,
    /// Processor maker.
    pub cpu_vendor: &'static str,
    /// Sockets.
    pub sockets: usize,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a socket.
    pub threads: u32,
    /// Base clock in megahertz.
    pub mhz: u32,
    /// Memory modules.
    pub dimms: usize,
    /// Size of one module in mebibytes.
    pub dimm_mib: u64,
    /// Memory speed in megatransfers per second.
    pub dimm_mts: u32,
    /// Disks, boot disk first.
    pub disks: &'static [Disk],
    /// Graphics processors.
    pub gpu: Option<Gpu>,
    /// Names of the network ports as the operating system sees them.
    pub nic_names: [&'static str; 2],
    /// Names of the network ports as Redfish ids.
    pub nic_ids: [&'static str; 2],
    /// Network adapter model.
    pub nic_model: &'static str,
    /// Port speed in megabits per second.
    pub nic_mbps: u32,
    /// Version of the system firmware.
    pub bios: &'static str,
    /// Power draw in watts: idle.
    pub watts: u32,
    /// Rack units.
    pub units: u32,
}

impl Model {
    /// Total memory in mebibytes.
    pub fn memory_mib(&self) -> u64 {
        self.dimms as u64 * self.dimm_mib
    }
}

/// All known models.
pub static MODELS: [Model; 4] = [
    Model {
        key: "dell-r650",
        vendor: Vendor::Dell,
        name: "PowerEdge R650",
        weight: 50,
        cpu: "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz",
        cpu_vendor: "Intel",
        sockets: 2,
        cores: 32,
        threads: 64,
        mhz: 2000,
        dimms: 8,
        dimm_mib: 32_768,
        dimm_mts: 3200,
        disks: &[Disk { model: "Dell Ent NVMe P5600 MU U.2 1.6TB", size_gb: 1600, media: "nvme", count: 2 }],
        gpu: None,
        nic_names: ["eno12399np0", "eno12409np1"],
        nic_ids: ["NIC.Integrated.1-1-1", "NIC.Integrated.1-2-1"],
        nic_model: "Broadcom Adv. Dual 25Gb Ethernet",
        nic_mbps: 25_000,
        bios: "1.13.2",
        watts: 210,
        units: 1,
    },
    Model {
        key: "hpe-dl365",
        vendor: Vendor::Hpe,
        name: "ProLiant DL365 Gen11",
        weight: 25,
        cpu: "AMD EPYC 9334 32-Core Processor",
        cpu_vendor: "AMD",
        sockets: 2,
        cores: 32,
        threads: 64,
        mhz: 2700,
        dimms: 12,
        dimm_mib: 32_768,
        dimm_mts: 4800,
        disks: &[
            Disk { model: "VK000960GZXRU", size_gb: 960, media: "ssd", count: 2 },
            Disk { model: "MO003200KYDND", size_gb: 3200, media: "nvme", count: 2 },
        ],
        gpu: None,
        nic_names: ["ens10f0np0", "ens10f1np1"],
        nic_ids: ["1", "2"],
        nic_model: "HPE Ethernet 25Gb 2-port SFP28 BCM57414",
        nic_mbps: 25_000,
        bios: "A55 v1.50",
        watts: 240,
        units: 1,
    },
    Model {
        key: "supermicro-421ge",
        vendor: Vendor::Supermicro,
        name: "SYS-421GE-TNRT",
        weight: 15,
        cpu: "Intel(R) Xeon(R) Platinum 8462Y+",
        cpu_vendor: "Intel",
        sockets: 2,
        cores: 32,
        threads: 64,
        mhz: 2800,
        dimms: 16,
        dimm_mib: 32_768,
        dimm_mts: 4800,
        disks: &[Disk { model: "SAMSUNG MZQL23T8HCLS-00A07", size_gb: 3840, media: "nvme", count: 4 }],
        gpu: Some(Gpu { vendor: "NVIDIA", model: "NVIDIA L40S", memory_mib: 46_068, count: 4 }),
        nic_names: ["enp65s0f0np0", "enp65s0f1np1"],
        nic_ids: ["1", "2"],
        nic_model: "MT28800 Family [ConnectX-5 Ex]",
        nic_mbps: 100_000,
        bios: "2.1",
        watts: 620,
        units: 4,
    },
    Model {
        key: "nvidia-dgx-h100",
        vendor: Vendor::Nvidia,
        name: "DGX H100",
        weight: 10,
        cpu: "Intel(R) Xeon(R) Platinum 8480CL",
        cpu_vendor: "Intel",
        sockets: 2,
        cores: 56,
        threads: 112,
        mhz: 2000,
        dimms: 32,
        dimm_mib: 65_536,
        dimm_mts: 4800,
        disks: &[
            Disk { model: "SAMSUNG MZ1L21T9HCLS-00A07", size_gb: 1920, media: "nvme", count: 2 },
            Disk { model: "KIOXIA KCM6DRUL3T84", size_gb: 3840, media: "nvme", count: 8 },
        ],
        gpu: Some(Gpu { vendor: "NVIDIA", model: "NVIDIA H100 80GB HBM3", memory_mib: 81_559, count: 8 }),
        nic_names: ["ens6f0np0", "ens6f1np1"],
        nic_ids: ["EthernetInterface_0", "EthernetInterface_1"],
        nic_model: "MT2910 Family [ConnectX-7]",
        nic_mbps: 100_000,
        bios: "1.5.3",
        watts: 2300,
        units: 8,
    },
];
