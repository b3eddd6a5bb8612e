//! A command that counts as a file transfer has no character by which a shell would do more than start it,
//! and no option of rsync that could make it run something.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::authorize::Action;
use porthole::session::What;

fuzz_target!(|command: &str| {
    let Action::Files { command, .. } = What::Command(command.to_owned()).action() else { return };
    let mut escaped = false;
    for character in command.chars() {
        assert!(escaped || !"$`;&|<>(){}!#'\"\n\r\t\0".contains(character), "{command:?}");
        escaped = character == '\\' && !escaped;
    }
    if command.starts_with("rsync") {
        let read = command.replace("\\\\", "_").replace("\\ ", "_").replace('\\', "");
        for word in read.split(' ') {
            let option = word.split('=').next().unwrap_or(word);
            let runs =
                ["--", "-s", "-e", "--daemon", "--config", "--dparam", "--rsh", "--secluded-args", "--protect-args"];
            assert!(!runs.contains(&option), "{command:?}");
        }
    }
});
