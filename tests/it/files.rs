//! Files: `scp` in both protocols, `sftp`, `rsync`, whole trees to and fro.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::house::{House, Plan, cluster, finish, finish_with, text};

/// A tree with what breaks copies: an empty file, a large one, a deep folder, odd names, modes.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er/still")).expect("writable");
    fs::write(root.join("empty"), "").expect("writable");
    let large: Vec<u8> = (0..3_000_017u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(root.join("deep/large"), large).expect("writable");
    fs::write(root.join("deep/er/still/a name with spaces"), "x\n").expect("writable");
    fs::write(root.join("deep/umlaut-ä"), "ä").expect("writable");
}

fn same(one: &Path, other: &Path) {
    let output = Command::new("diff").arg("-r").arg(one).arg(other).output().expect("diff is installed");
    assert!(output.status.success(), "{}", text(&output.stdout));
}

fn carried(house: &House, up: &mut Command, down: &mut Command) {
    let sent = finish(up);
    assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), house.log());
    let fetched = finish(down);
    assert!(fetched.status.success(), "{}\n{}", text(&fetched.stderr), house.log());
}

#[test]
fn a_tree_survives_the_way_there_and_back_by_each_program() {
    // Each session has a container and files of its own; the target's volumes outlive it.
    let config = format!("[profiles.shared]\nimage = \"{}\"\ntarget-mounts = true\n", cluster().tools);
    let house = House::build(crate::house::Plan { config, ..Default::default() });
    let source = house.file("source");
    tree(&source);
    let place = format!("/data/porthole-it-{}", house.port);
    for (program, flags) in [("scp", vec!["-r", "-s"]), ("scp", vec!["-r", "-O"]), ("rsync", vec!["-a"])] {
        let back = house.file(&format!("back-{program}-{}", flags.concat()));
        let remote = format!("demo.web~shared@porthole:{place}-{program}{}", flags.concat());
        let command = |from: &str, to: &str| {
            let mut command = if program == "rsync" {
                let mut command = Command::new("rsync");
                command.arg("-e").arg(format!("ssh -F {}", house.file("ssh_config").display()));
                command
            } else {
                house.client("scp")
            };
            command.args(&flags).args([from, to]);
            command
        };
        let slash = if program == "rsync" { "/" } else { "" };
        let mut up = command(&format!("{}{slash}", source.display()), &remote);
        let mut down = command(&format!("{remote}{slash}"), &back.display().to_string());
        carried(&house, &mut up, &mut down);
        same(&source, &back);
    }
    let batch = format!(
        "put -r {} {place}-sftp\nget -r {place}-sftp {}\n",
        source.display(),
        house.file("back-sftp").display()
    );
    fs::write(house.file("batch"), batch).expect("writable");
    let sftp = finish(house.client("sftp").arg("-b").arg(house.file("batch")).arg("demo.web~shared@porthole"));
    assert!(sftp.status.success(), "{}", text(&sftp.stderr));
    same(&source, &house.file("back-sftp"));
    house.ssh("demo.web~shared", &format!("rm -rf {place}-*"));
}

#[test]
fn an_image_without_the_program_says_what_is_missing() {
    let bare = "porthole.test/busybox:1";
    let house = House::build(crate::house::Plan {
        config: format!("[profiles.bare]\nimage = \"{bare}\"\n"),
        ..Default::default()
    });
    for (line, command) in [("sftp-server", "scp"), ("rsync", "rsync")] {
        let mut client = if command == "rsync" {
            let mut client = Command::new("rsync");
            client.arg("-e").arg(format!("ssh -F {}", house.file("ssh_config").display()));
            client
        } else {
            house.client("scp")
        };
        let output = finish(client.args(["demo.web~bare@porthole:/etc/hostname", "."]).current_dir(house.folder()));
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("porthole:") && said.contains(line), "{command}: {said}");
    }
}

#[test]
fn a_command_beside_a_copy_is_a_command() {
    let house = House::open();
    let output =
        finish_with(house.client("ssh").args(["demo.web@porthole", "scp -t /nonexistent; echo status $?"]), b"");
    assert!(text(&output.stdout).contains("status"), "{output:?}");
    let decision = house.await_audit("decision", |event| event["event"] == "decision");
    assert_eq!(decision["action"], "exec");
}

#[test]
fn the_right_to_files_runs_nothing_else() {
    let policy = include_str!("policy-commands-only.toml").replace("\"exec\"", "\"files\"");
    let house = House::build(Plan { policy: Some(policy), ..Plan::default() });
    for command in [
        "rsync --server --daem\\on --conf\\ig=/tmp/x .",
        "rsync --server -s .",
        // Here `--` is a value and ends nothing.
        "rsync --server --temp-dir -- --daemon --config=/tmp/x .",
        "rsync --server -e -- -s .",
        "scp -t \\-S/bin/sh x",
    ] {
        let output = house.ssh("demo.web", command);
        assert_eq!(output.status.code(), Some(254), "{command}: {output:?}");
    }
    let actions: Vec<_> = house
        .audit()
        .into_iter()
        .filter(|event| event["event"] == "decision")
        .map(|event| event["action"].clone())
        .collect();
    assert_eq!(actions, ["exec"; 5]);
}
