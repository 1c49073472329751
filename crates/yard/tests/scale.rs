//! What a large datacenter costs. Run by hand: `YARD_SERVERS=1000 cargo test -p yard --test scale -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)]

use std::{net::Ipv4Addr, time::Instant};

use yard::YardConfig;

/// A number of `/proc/self/status`, in kilobytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time of this process in clock ticks.
fn ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute and thousands of open files"]
async fn memory_and_idle_time() {
    let servers: usize = std::env::var("YARD_SERVERS").map_or(1000, |text| text.parse().unwrap());
    let config = YardConfig {
        servers,
        bmc_base: Ipv4Addr::new(127, 140, 0, 1),
        switch_base: Ipv4Addr::new(127, 141, 0, 1),
        relay_base: Ipv4Addr::new(127, 142, 0, 1),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        ..YardConfig::default()
    };
    let begin = Instant::now();
    let yard = yard::run(config).await.unwrap();
    let (started, fresh) = (begin.elapsed(), status("VmRSS"));
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    for server in &yard.world().servers {
        let url = format!("https://{}:8443/redfish/v1", server.spec.bmc);
        assert!(client.get(url).send().await.unwrap().status().is_success());
    }
    let touched = status("VmRSS");
    let before = ticks();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let idle = ticks() - before;
    println!(
        "{servers} servers: started in {started:.2?}, {} MiB; {} MiB after a TLS request to each; {idle} ticks of CPU in 5 idle seconds",
        fresh / 1024,
        touched / 1024
    );
    yard.shutdown().await;
}
