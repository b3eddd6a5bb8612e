//! What a bundle may hold, and what it may not.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::source::{Source, UNPACKED_MAX_BYTES};
use super::*;

const POLICY: &str = "package porthole\ndecision := data.access.open\n";

/// A bundle; names are written as they are, whatever they lead to.
fn bundle(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn problem(files: &[(&str, &[u8])]) -> String {
    Source::of_bundle(&bundle(files)).unwrap_err().to_string()
}

#[test]
fn data_stands_where_its_folder_is() {
    let source = Source::of_bundle(&bundle(&[
        ("/porthole.rego", POLICY.as_bytes()),
        ("porthole_test.rego", b"this is not even Rego"),
        ("access/data.json", b"{\"open\": true}"),
        ("access/more/data.yaml", b"hours: [8, 18]"),
        (".manifest", b"{\"roots\": [\"\"]}"),
        ("README", b"of no use here"),
    ]));
    let source = source.unwrap();
    assert_eq!(
        serde_json::json!(source.data),
        serde_json::json!({ "access": { "open": true, "more": { "hours": [8, 18] } } })
    );
    let policy = Policy::load(&source, "data.porthole.decision").unwrap();
    assert!(policy.decide(&["{}".to_owned()]).unwrap()[0].allow);
}

#[test]
fn what_a_bundle_may_not_hold_keeps_it_out() {
    let policy = ("porthole.rego", POLICY.as_bytes());
    assert!(problem(&[policy, ("../../etc/data.json", b"{}")]).contains("leads out of it"));
    assert!(problem(&[policy, ("data.json", b"[1]")]).contains("data must be an object"));
    assert!(problem(&[policy, ("data.json", b"\xff")]).contains("is not UTF-8"));
    assert!(
        problem(&[policy, ("a/data.json", b"{\"x\": 1}"), ("data.json", b"{\"a\": {\"x\": 2}}")])
            .contains("`x` is in another")
    );
    assert!(problem(&[("data.json", b"{}")]).contains("no module in Rego"));
    assert!(Source::of_bundle(b"not packed").unwrap_err().to_string().contains("it is no bundle"));
}

#[test]
fn a_bundle_that_unpacks_to_too_much_is_not_unpacked() {
    let zeros = vec![b' '; UNPACKED_MAX_BYTES + 1];
    let packed = bundle(&[("porthole.rego", POLICY.as_bytes()), ("data.json", &zeros)]);
    assert!(packed.len() < 1 << 20, "{} bytes are no bomb", packed.len());
    let said = Source::of_bundle(&packed).unwrap_err().to_string();
    assert!(said.contains("it is too large"), "{said}");
    // Files of no use count too, by the size of the whole.
    let mut endless = GzEncoder::new(Vec::new(), Compression::fast());
    let header = {
        let mut header = tar::Header::new_gnu();
        header.set_path("README").unwrap();
        header.set_size(10 * UNPACKED_MAX_BYTES as u64);
        header.set_cksum();
        header
    };
    endless.write_all(header.as_bytes()).unwrap();
    for _ in 0..3 {
        endless.write_all(&zeros).unwrap();
    }
    assert!(Source::of_bundle(&endless.finish().unwrap()).is_err());
}

#[test]
fn undefined_is_a_no_and_nonsense_is_no_answer() {
    let policy = |text: &str| {
        let source = Source::of_bundle(&bundle(&[("it.rego", text.as_bytes())])).unwrap();
        Policy::load(&source, "data.porthole.decision").unwrap()
    };
    let ask = |text: &str| policy(text).decide(&["{\"action\": \"shell\"}".to_owned()]);
    let undefined = ask("package porthole\ndecision := true if input.action == \"list\"").unwrap();
    assert_eq!(undefined[0].reason, "undefined: data.porthole.decision says nothing of this");
    assert!(!undefined[0].allow);
    assert!(ask("package porthole\ndecision := true if input.action == \"shell\"").unwrap()[0].allow);
    for nonsense in ["\"yes\"", "{\"allow\": \"yes\"}", "{\"allow\": true, \"obligations\": {\"watch\": true}}", "null"]
    {
        assert!(ask(&format!("package porthole\ndecision := {nonsense}")).is_err(), "{nonsense}");
    }
}
