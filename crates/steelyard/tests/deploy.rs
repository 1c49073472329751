//! The main job, end to end, with real processes that are killed while they work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod rig;
mod db {
    pub use store::Database;
}
#[path = "../../store/tests/rig/databases.rs"]
#[allow(dead_code, reason = "shared with the tests of the store")]
mod databases;

use std::collections::BTreeSet;

use rig::{Rig, text};
use serde_json::Value;

fn sample(count: u32, server_type: &str) -> String {
    format!(
        "infrastructure: shop\nsite: demo\nnetworks:\n- label: front\n  fabric: demo-fabric\n  ipv4PrefixLength: 26\n- label: back\n  fabric: demo-fabric\n  ipv4PrefixLength: 26\n\
         groups:\n- label: web\n  count: {count}\n  serverType: {server_type}\n  osTemplate: demo-linux\n  connections:\n  - network: front\n    defaultRoute: true\n  - network: back\n    tagged: true\n"
    )
}

/// The server type of which most servers are free.
fn common_type(rig: &Rig) -> String {
    let types = rig.get("/server-types").unwrap();
    let mut counted: Vec<(i64, String)> = types["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            let free = rig.get(&format!("/sites/1/availability?serverTypeId={}", t["id"])).unwrap();
            (free["free"].as_i64().unwrap(), t["name"].as_str().unwrap().to_owned())
        })
        .collect();
    counted.sort();
    counted.pop().unwrap().1
}

/// Follows the running deploy; `disturb` is called after each step that ended.
fn follow(rig: &mut Rig, infrastructure: i64, mut disturb: impl FnMut(&mut Rig)) -> usize {
    let mut seen: BTreeSet<i64> = BTreeSet::new();
    let mut disturbed = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_mins(4);
    loop {
        assert!(std::time::Instant::now() < end, "the deploy does not end; done: {seen:?}");
        let Some(row) = rig.get(&format!("/infrastructures/{infrastructure}")) else { continue };
        if row["config"]["deployStatus"] == "finished" {
            return disturbed;
        }
        let Some(jobs) = rig.get(&format!("/job-groups/{}/jobs?limit=100", row["config"]["jobGroupId"])) else {
            continue;
        };
        let jobs = jobs["data"].as_array().unwrap();
        let failed: Vec<&Value> = jobs.iter().filter(|j| j["status"] == "thrown_error").collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let done: BTreeSet<i64> =
            jobs.iter().filter(|j| j["status"] == "returned_success").map(|j| j["jobId"].as_i64().unwrap()).collect();
        if done.difference(&seen).next().is_some() {
            seen = done;
            disturbed += 1;
            disturb(rig);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn infrastructure(rig: &Rig) -> i64 {
    let all = rig.get("/infrastructures").unwrap();
    all["data"].as_array().unwrap().iter().find(|i| i["label"] == "shop").unwrap()["id"].as_i64().unwrap()
}

fn pairs_reach_each_other(rig: &Rig, expected: bool) {
    let servers = rig.yard("/servers");
    let serial = |name: &str| {
        servers.as_array().unwrap().iter().find(|s| s["hostname"] == name).unwrap()["serial"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let answer = rig.yard(&format!("/reachable?a={}&b={}", serial("web-1"), serial("web-2")));
    assert_eq!(answer["reachable"], expected, "{answer:#}");
}

#[test]
fn controllers_are_killed_after_every_step_and_the_deploy_still_ends_well() {
    let mut rig = Rig::new(19_100, 6);
    let file = rig.write("shop.yaml", &sample(3, &common_type(&rig)));
    rig.cli(&["apply", "--file", text(&file), "--deploy"]);
    let id = infrastructure(&rig);
    let mut turn = 0;
    let killed = follow(&mut rig, id, |rig| {
        // In turn the one, the other, and both at once.
        if turn % 3 != 0 {
            rig.kill_global();
        }
        if turn % 3 != 1 {
            rig.kill_site();
            rig.start_site();
        }
        if turn % 3 != 0 {
            rig.start_global();
        }
        turn += 1;
    });
    assert!(killed >= 6, "killed after {killed} steps only");
    assert_eq!(rig.running(), ["web-1", "web-2", "web-3"]);
    pairs_reach_each_other(&rig, true);
    let exported = rig.cli(&["export", "shop"]);
    assert!(exported.contains("count: 3"), "{exported}");

    // One that is deployed has nothing to be done, and one server fewer is wiped and free again.
    let plan = rig.cli(&["infrastructure", "action", "shop", "plan", "--output", "json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["changes"], serde_json::json!([]), "{plan:#}");
    let file = rig.write("shop.yaml", &sample(2, &common_type(&rig)));
    rig.cli(&["apply", "--file", text(&file), "--deploy", "--allow-data-loss"]);
    let mut turn = 0;
    follow(&mut rig, id, |rig| {
        if turn % 2 == 0 {
            rig.kill_site();
            rig.start_site();
        } else {
            rig.kill_global();
            rig.start_global();
        }
        turn += 1;
    });
    assert_eq!(rig.running().len(), 2);
    let free = rig.get("/servers?filter.serverStatus=available").unwrap();
    assert_eq!(free["meta"]["totalItems"], 4, "{free:#}");
}

#[test]
fn a_site_finishes_a_deploy_while_the_global_controller_is_away() {
    let mut rig = Rig::new(19_200, 4);
    let file = rig.write("shop.yaml", &sample(2, &common_type(&rig)));
    rig.cli(&["apply", "--file", text(&file), "--deploy"]);
    let id = infrastructure(&rig);
    // From then on the site has all that it needs, the image included.
    rig.wait("the first server to boot the installer", || {
        rig.yard("/servers").as_array().unwrap().iter().any(|s| s["power"] == "on")
    });
    rig.kill_global();
    rig.wait("both systems", || rig.running() == ["web-1", "web-2"]);
    pairs_reach_each_other(&rig, true);
    rig.start_global();
    follow(&mut rig, id, |_| {});
    let servers = rig.cli(&["instance", "list", "--of", "shop", "--output", "json"]);
    assert!(servers.contains("172.24."), "{servers}");
}

#[test]
fn the_main_job_runs_on_postgresql() {
    let Some(url) = tokio::runtime::Runtime::new().unwrap().block_on(databases::postgres_url()) else { return };
    let mut rig = Rig::with_database(19_300, 3, Some(url));
    assert!(!rig.folder.path().join("global/global.db").exists(), "the embedded database is in use");
    let file = rig.write("shop.yaml", &sample(2, &common_type(&rig)));
    rig.cli(&["apply", "--file", text(&file), "--deploy"]);
    let id = infrastructure(&rig);
    let mut turn = 0;
    follow(&mut rig, id, |rig| {
        if turn == 3 {
            rig.kill_global();
            rig.start_global();
        }
        turn += 1;
    });
    assert!(turn > 3, "killed after {turn} steps only");
    assert_eq!(rig.running(), ["web-1", "web-2"]);
    pairs_reach_each_other(&rig, true);
    let mut emptied = sample(2, &common_type(&rig));
    emptied.truncate(emptied.find("groups:").unwrap());
    let file = rig.write("shop.yaml", &(emptied + "groups: []\n"));
    rig.cli(&["apply", "--file", text(&file), "--deploy", "--allow-data-loss"]);
    follow(&mut rig, id, |_| {});
    let free = rig.get("/servers?filter.serverStatus=available").unwrap();
    assert_eq!(free["meta"]["totalItems"], 3, "{free:#}");
}

/// From the simulated BMC over SSH, the site, its connection, the Global Controller and a WebSocket to the terminal.
#[test]
fn what_a_starting_server_writes_arrives_in_the_terminal() {
    use std::io::Read;
    let rig = Rig::new(19_400, 2);
    rig.wait("the site", || rig.get("/servers/1/consoles").is_some_and(|c| c["siteConnected"] == true));
    let mut console = rig.console(1);
    let (told, heard) = std::sync::mpsc::channel();
    let mut out = console.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut all, mut buffer) = (String::new(), [0; 4096]);
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            all.push_str(&String::from_utf8_lossy(&buffer[..count]));
            let _ = told.send(all.clone());
        }
    });
    rig.wait("the console to be open", || {
        rig.get("/servers/1/consoles").is_some_and(|c| c["sessions"].as_array().is_some_and(|s| s.len() == 1))
    });
    rig.cli(&["server", "action", "1", "set-power", "--set", "powerCommand=on"]);
    let mut seen = String::new();
    rig.wait("the text of a starting server", || {
        while let Ok(text) = heard.try_recv() {
            seen = text;
        }
        seen.contains("firmware self test") && seen.contains("start ")
    });
    drop(console.stdin.take());
    assert!(console.wait().unwrap().success(), "it ends with its input");
    reader.join().unwrap();
    let kinds = |name: &str| {
        let events = rig.get("/events?limit=100").unwrap();
        events["data"].as_array().unwrap().iter().filter(|e| e["kind"] == name).count()
    };
    rig.wait("the record", || kinds("server.console_closed") == 1);
    let kept = std::fs::read_to_string(rig.folder.path().join("logs").join("global.log")).unwrap_or_default();
    assert!(!kept.contains("firmware self test"), "what is shown is kept nowhere");
}
