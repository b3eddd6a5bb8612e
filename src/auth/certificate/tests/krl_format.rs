//! The binary format's edges, written by hand where `ssh-keygen` does not go.

use super::krl::Krl;
use super::*;

const HEADER: &[u8] = b"SSHKRL\n\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
}

fn section(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], string(body).as_slice()].concat()
}

fn list(sections: &[Vec<u8>]) -> Vec<u8> {
    [HEADER, &sections.concat()].concat()
}

/// A certificates section of any CA.
fn certificates(subsections: &[Vec<u8>]) -> Vec<u8> {
    section(1, &[string(b""), string(b"reserved"), subsections.concat()].concat())
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn bitmap(offset: u64, bits: &[u8]) -> Vec<u8> {
    section(0x22, &[numbers(&[offset]), string(bits)].concat())
}

fn extension(critical: u8) -> Vec<u8> {
    [string(b"x@corp"), vec![critical], string(b"contents")].concat()
}

#[test]
fn what_the_specification_allows_is_read() {
    for (name, bytes) in [
        ("nothing", list(&[])),
        ("no subsections", list(&[certificates(&[])])),
        ("an extension that may be passed over", list(&[section(255, &extension(0))])),
        ("one within a section", list(&[certificates(&[section(0x39, &extension(0))])])),
        ("a bitmap up to the last serial", list(&[certificates(&[bitmap(u64::MAX - 7, &[0, 0x80])])])),
        ("an empty bitmap", list(&[certificates(&[bitmap(5, b"")])])),
        ("the last range", list(&[certificates(&[section(0x21, &numbers(&[1, u64::MAX]))])])),
    ] {
        Krl::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn what_is_not_understood_refuses_the_whole_list() {
    let long_bitmap = vec![1; (1 << 21) + 1];
    for (name, bytes) in [
        ("no bytes", Vec::new()),
        ("another magic", [b"SSHKRL\r\n", &HEADER[8..]].concat()),
        ("another format", [&HEADER[..11], b"\x02", &HEADER[12..]].concat()),
        ("a byte too many", list(&[vec![1]])),
        ("an unknown section", list(&[section(6, b"")])),
        ("an unknown subsection", list(&[certificates(&[section(0x24, b"")])])),
        ("a critical extension", list(&[section(255, &extension(1))])),
        ("any truth is critical", list(&[section(255, &extension(2))])),
        ("a critical extension within a section", list(&[certificates(&[section(0x39, &extension(1))])])),
        ("an extension with more", list(&[section(255, &[extension(0), vec![0]].concat())])),
        ("a signature", list(&[[section(4, b"key"), string(b"signature")].concat()])),
        ("a serial 0", list(&[certificates(&[section(0x20, &numbers(&[0]))])])),
        ("half a serial", list(&[certificates(&[section(0x20, &[0; 4])])])),
        ("a range from 0", list(&[certificates(&[section(0x21, &numbers(&[0, 7]))])])),
        ("a range backwards", list(&[certificates(&[section(0x21, &numbers(&[8, 7]))])])),
        ("a range of three", list(&[certificates(&[section(0x21, &numbers(&[7, 8, 9]))])])),
        ("a negative bitmap", list(&[certificates(&[bitmap(1, &[0x80])])])),
        ("a bitmap beyond the last serial", list(&[certificates(&[bitmap(u64::MAX - 6, &[0, 0x80])])])),
        ("a bitmap beyond reason", list(&[certificates(&[bitmap(1, &long_bitmap)])])),
        ("a bitmap with more", list(&[certificates(&[[bitmap(1, b"\x01"), vec![0]].concat()])])),
        ("a short SHA-1", list(&[section(3, &string(&[0; 19]))])),
        ("a long SHA-256", list(&[section(5, &string(&[0; 33]))])),
        ("a huge length", list(&[vec![2, 0xff, 0xff, 0xff, 0xff]])),
        ("a length beyond its section", list(&[section(2, &[0, 0, 0, 9, 1])])),
    ] {
        assert!(Krl::parse(&bytes).is_err(), "{name}");
    }
}

#[test]
fn a_list_that_is_cut_within_a_section_is_refused() {
    let whole = list(&[
        certificates(&[section(0x20, &numbers(&[7])), bitmap(9, &[3]), section(0x23, &string(b"bob"))]),
        section(2, &string(b"key")),
        section(5, &string(&[1; 32])),
    ]);
    let parsed = (0..=whole.len()).filter(|end| Krl::parse(&whole[..*end]).is_ok()).count();
    // The header alone, and after each of the three sections.
    assert_eq!(parsed, 4);
}

#[test]
fn bits_count_from_the_offset_and_the_low_end() {
    let desk = Desk::new();
    let marks = |serial: u64| Marks::of(&desk.sign("ca", "alice", &["-I", "a", "-n", "a", "-z", &serial.to_string()]));
    let krl = Krl::parse(&list(&[certificates(&[bitmap(100, &[0x00, 0x01, 0x00, 0x81])])])).expect("it parses");
    for serial in [99, 100, 101, 106, 107, 108, 115, 116, 117, 124] {
        let revoked = [100, 107, 116].contains(&serial);
        assert_eq!(krl.revokes(&marks(serial)).is_some(), revoked, "{serial}");
    }
}
