//! 200 MB each way through the gateways beside plain TCP: `cargo bench --bench gateway`, or as a part of `make bench`.
//!
//! HAProxy says PROXY v2, nginx carries a WebSocket whose client is `porthole connect`; both are the machine's own, with the
//! configurations that are shipped. The cluster is the emulated one, or a real one where `make bench` says which. Every
//! figure is a median over alternating rounds. The table goes to `target/bench/` as JSON and as text.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[path = "../tests/it/house.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod house;
#[path = "../tests/it/gateway/issuer.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod issuer;
#[path = "../tests/it/gateway/programs.rs"]
mod programs;
#[path = "shared/timing.rs"]
mod timing;

use house::{House, PROGRAM, Plan};
use issuer::{Issuer, now};
use programs::Gateway;
use timing::{BULK_BYTES, rate, timed};

/// Odd, so that the median is one of them.
const ROUNDS: usize = 7;
const WAYS: [&str; 3] = ["plain TCP", "HAProxy, PROXY v2", "nginx, WebSocket"];

/// A house with all three ways to it.
struct Bench {
    house: House,
    haproxy: Gateway,
    nginx: Gateway,
}

fn main() {
    let issuer = Issuer::start();
    // HAProxy comes from an address of its own, so that who comes directly needs no PROXY header.
    let config = format!(
        "[listen]\nproxy-protocol-from = [\"127.0.0.2/32\"]\n\
         [http]\naddress = \"127.0.0.1:0\"\ntrusted-networks = [\"127.0.0.0/8\"]\n{}",
        issuer.config()
    );
    let house = House::build(Plan { config, ..Plan::default() });
    std::fs::write(house.file("token"), issuer.token(serde_json::json!({ "exp": now() + 7200 }))).expect("writable");
    let server = format!("127.0.0.1:{} send-proxy-v2 source 127.0.0.2", house.port);
    let haproxy = include_str!("../deploy/gateway/haproxy.cfg")
        .replace("0.0.0.0:22", "@LISTEN@")
        .replace("porthole:22 send-proxy-v2", &server);
    let nginx = include_str!("../deploy/gateway/nginx.conf")
        .replace("0.0.0.0:8443", "@LISTEN@")
        .replace("porthole:8080", &format!("127.0.0.1:{}", house.gateway_port()));
    let gateways = (Gateway::haproxy(house.folder(), &haproxy), Gateway::nginx(house.folder(), &nginx));
    let (Some(haproxy), Some(nginx)) = gateways else { return };
    Bench { house, haproxy, nginx }.run();
}

impl Bench {
    fn run(&self) {
        let zeros = tempfile::NamedTempFile::new().expect("a file");
        zeros.as_file().set_len(BULK_BYTES as u64).expect("room");
        let down = format!("head -c {BULK_BYTES} /dev/zero");
        let mut seen: [[Vec<Duration>; 3]; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (way, times) in seen[0].iter_mut().enumerate() {
                times.push(timed(&mut self.ssh(way, &down), Some(BULK_BYTES)).1);
            }
            for (way, times) in seen[1].iter_mut().enumerate() {
                let mut up = self.ssh(way, "cat >/dev/null");
                times.push(timed(up.stdin(zeros.reopen().expect("it is there")), Some(0)).1);
            }
        }
        let [from, into] = seen.map(|ways| ways.map(|mut times| rate(&mut times)));
        write(&[("200 MB from the pod", from), ("200 MB into the pod", into)]);
    }

    /// ssh by one of the ways, with the same cipher on each.
    fn ssh(&self, way: usize, command: &str) -> Command {
        let mut client = self.house.client("ssh");
        match way {
            0 => &mut client,
            1 => client.args(["-p", &self.haproxy.port.to_string()]),
            _ => {
                let (url, token) = (format!("ws://127.0.0.1:{}/tools/ssh", self.nginx.port), self.house.file("token"));
                let proxy = format!("ProxyCommand={PROGRAM} connect {url} --token-file {}", token.display());
                client.args(["-o", &proxy, "-o", "PreferredAuthentications=none"])
            }
        };
        client.args(["demo.web@porthole", command]).stderr(Stdio::null());
        client
    }
}

fn write(rows: &[(&str, [String; 3])]) {
    let mut text = String::new();
    let mut json = serde_json::Map::new();
    for (what, rates) in rows {
        let cells: Vec<_> = WAYS.iter().zip(rates).map(|(way, rate)| format!("{way}: {rate:10}")).collect();
        text.push_str(&format!("{what:24}{}\n", cells.join("  ").trim_end()));
        let values = WAYS.iter().zip(rates).map(|(way, rate)| ((*way).to_owned(), rate.clone().into()));
        json.insert((*what).to_owned(), serde_json::Value::Object(values.collect()));
    }
    print!("{text}");
    let folder = Path::new("target/bench");
    std::fs::create_dir_all(folder).expect("writable");
    std::fs::write(folder.join("gateway.txt"), text).expect("writable");
    std::fs::write(folder.join("gateway.json"), format!("{:#}\n", serde_json::Value::Object(json))).expect("writable");
    println!("written to {}", folder.display());
}
