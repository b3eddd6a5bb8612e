//! Whether a command is nothing but the far end of a file transfer, as `scp` and `rsync` start it.
//!
//! Such a command asks for the right to files alone, so it must not be able to run anything else: every word is read as
//! the pod's shell will read it, and only options that are known to be harmless pass. Doubt makes it a command like any
//! other, which asks for more rights.

use crate::authorize::FileAccess;

/// What may stand in a group of short options of `rsync --server`. Not `s`, by which more options come over stdin, unseen;
/// not those whose value would be the group's rest. `e` is told apart.
const RSYNC_LETTERS: &[u8] = b"vqlLkKogDtpErzcbuxHAXSniRdOJWymNUIhCFaP";

/// Long options of `rsync --server`, up to their `=`. None that names a program or a configuration.
const RSYNC_OPTIONS: &[&str] = &[
    "append",
    "append-verify",
    "backup-dir",
    "block-size",
    "bwlimit",
    "checksum-choice",
    "checksum-seed",
    "chmod",
    "chown",
    "compare-dest",
    "compress-choice",
    "compress-level",
    "compress-threads",
    "copy-dest",
    "copy-devices",
    "copy-unsafe-links",
    "debug",
    "delay-updates",
    "delete",
    "delete-after",
    "delete-before",
    "delete-delay",
    "delete-during",
    "delete-excluded",
    "delete-missing-args",
    "existing",
    "fake-super",
    "files-from",
    "force",
    "from0",
    "fsync",
    "fuzzy",
    "groupmap",
    "iconv",
    "ignore-errors",
    "ignore-existing",
    "ignore-missing-args",
    "info",
    "inplace",
    "link-dest",
    "list-only",
    "log-format",
    "max-alloc",
    "max-delete",
    "max-size",
    "min-size",
    "mkpath",
    "modify-window",
    "msgs2stderr",
    "munge-links",
    "new-compress",
    "no-implied-dirs",
    "no-W",
    "no-i-r",
    "no-inc-recursive",
    "no-msgs2stderr",
    "no-r",
    "no-relative",
    "no-specials",
    "no-whole-file",
    "numeric-ids",
    "old-compress",
    "one-file-system",
    "only-write-batch",
    "open-noatime",
    "partial",
    "partial-dir",
    "preallocate",
    "prune-empty-dirs",
    "remove-source-files",
    "safe-links",
    "sender",
    "size-only",
    "skip-compress",
    "specials",
    "stats",
    "stderr",
    "suffix",
    "super",
    "temp-dir",
    "timeout",
    "use-qsort",
    "usermap",
    "write-devices",
];

/// What makes even a sender change files: it deletes them, or writes a batch.
const RSYNC_WRITES: &[&str] = &["--remove-source-files", "--only-write-batch", "--write-devices"];

/// What `command` does to the pod's files, where it is such a call and nothing else.
pub(super) fn access(command: &str) -> Option<FileAccess> {
    let words = words(command)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["scp", rest @ ..] => scp(rest),
        // Elsewhere the word could be another option's value, and the call one that writes. A sender that deletes what
        // it has sent writes too.
        ["rsync", "--server", "--sender", rest @ ..] if is_rsync(rest) => {
            let writes = |word: &&str| RSYNC_WRITES.iter().any(|option| word.starts_with(option));
            Some(if rest.iter().any(writes) { FileAccess::Write } else { FileAccess::Read })
        }
        ["rsync", "--server", rest @ ..] if is_rsync(rest) => Some(FileAccess::Write),
        _ => None,
    }
}

/// The far end of a copy has -t or -f among its flags, before any path; the flags that take a value (-S, -o, -F, -c …)
/// belong to the near end and could name a program.
fn scp(words: &[&str]) -> Option<FileAccess> {
    let flags: Vec<_> = words.iter().take_while(|word| word.starts_with('-') && **word != "--").collect();
    let known = flags.iter().all(|flag| flag[1..].bytes().all(|letter| b"tfrpdvq".contains(&letter)));
    let has = |letter| flags.iter().any(|flag| flag[1..].contains(letter));
    match (known, has('t'), has('f')) {
        (true, true, _) => Some(FileAccess::Write),
        (true, false, true) => Some(FileAccess::Read),
        _ => None,
    }
}

/// rsync takes an option wherever it stands, also behind the paths. Not even `--` ends them for sure: after an option that takes
/// a value (`--temp-dir -- --daemon`) it is that value. No client sends one, since rsync writes a path `-x` as `./-x`.
fn is_rsync(words: &[&str]) -> bool {
    words.iter().all(|word| match word.strip_prefix('-') {
        None | Some("") => true,
        Some(option) => match option.strip_prefix('-') {
            Some(long) => RSYNC_OPTIONS.contains(&long.split('=').next().unwrap_or(long)),
            None => are_letters(option) || is_block_size(option),
        },
    })
}

/// A group such as `logDtpre.iLsfxCIvu`: behind the `e`, on this side, stands what the other one is capable of. Without that,
/// the next word would be it.
fn are_letters(group: &str) -> bool {
    let (letters, capable) = group.split_once('e').unwrap_or((group, "."));
    letters.bytes().all(|letter| RSYNC_LETTERS.contains(&letter))
        && capable.starts_with(|first: char| first == '.' || first.is_ascii_digit())
        && capable.bytes().all(|byte| byte == b'.' || byte.is_ascii_alphanumeric())
}

/// `-B1000`, the one short option with a value that clients send.
fn is_block_size(option: &str) -> bool {
    let size = option.strip_prefix('B');
    size.is_some_and(|size| !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The words as a shell makes them of plain characters and `\`; none where another character stands that a shell could take
/// for more, or a pattern that could become an option (a file may have any name).
fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(characters.next().filter(|escaped| !escaped.is_control())?),
            '*' | '?' | '[' | ']' => match &mut word {
                Some(begun) if !begun.is_empty() && !begun.starts_with('-') => begun.push(character),
                _ => return None,
            },
            // At a word's start `~` is a home folder, which begins with a slash; elsewhere it is itself.
            '_' | '.' | '/' | '@' | '%' | '+' | '=' | ':' | ',' | '-' | '~' => {
                word.get_or_insert_default().push(character);
            }
            other if other.is_alphanumeric() => word.get_or_insert_default().push(other),
            _ => return None,
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_a_transfer() {
        for command in [
            "scp -t /tmp/x",
            "scp -r -p -d -t /tmp",
            "scp -v -f -- /var/log/*.log",
            "rsync --server -logDtpre.iLsfxCIvu . /srv/",
            "rsync --server --sender -vlogDtprze.iLsfxC . a\\ b",
            "rsync --server --sender -lHogDtpAXrSe.iLsfxCIvu --numeric-ids . /var/log/*.gz",
            "rsync --server -vtre.iLsfxCIvu --bwlimit=100 --inplace . y",
            "rsync --server -blogDtprce.iLsfxCIvu --log-format=X --backup-dir /b --suffix=.o --partial . y",
            "rsync --server -logDtpRe.LsfxCIvu --link-dest ../o . y",
            "rsync --server -logDtUUpre.iLsfxCIvu --fsync --inplace --write-devices --preallocate . y",
            "rsync --server --sender -logDtpRe.LsfxCIvu --files-from=- --from0 . d",
            "rsync --server --sender -nRe.LsfxCIvu --files-from /srv/list . /",
            "rsync --server -logDtpre.iLsfxCIvu --log-format=X --info=NAME --msgs2stderr . d",
            "rsync --server -logtpre.LsfxCIvu --specials --use-qsort -B1000 . d",
            "rsync --server --sender -lDtpre.iLsfxCIvu --no-specials --no-msgs2stderr . ./-x it\\'s a?b[c]\\{d\\}",
            "rsync --server -logDtpr . d",
        ] {
            assert!(access(command).is_some(), "{command}");
        }
    }

    #[test]
    fn only_what_changes_nothing_is_read() {
        for (command, access_is) in [
            ("scp -f /tmp/x", FileAccess::Read),
            ("scp -t /tmp/x", FileAccess::Write),
            ("scp -f -t /tmp/x", FileAccess::Write),
            ("rsync --server --sender -vlogDtprze.iLsfxC . a", FileAccess::Read),
            ("rsync --server -vlogDtprze.iLsfxC . a", FileAccess::Write),
            ("rsync --server --sender -re.L --remove-source-files . a", FileAccess::Write),
            ("rsync --server --temp-dir --sender . a", FileAccess::Write),
        ] {
            assert_eq!(access(command), Some(access_is), "{command}");
        }
    }

    #[test]
    fn what_could_run_something_is_none() {
        for command in [
            "scp -t /tmp; sh",
            "scp -t $(id)",
            "scp -t `id`",
            "scp -t x\nid",
            "scp -S /bin/sh -t x",
            "scp -t \\-S/bin/sh x",
            "scp -oProxyCommand=id -t x",
            "scp a host:b",
            "scp /tmp/x -t",
            "scp -f *",
            "rsync --server --daemon .",
            "rsync --server --config=/tmp/x .",
            "rsync --server --daem\\on --conf\\ig=/tmp/x .",
            "rsync --server . x --daemon",
            "rsync --server -s .",
            "rsync --server -logDtprse.iLsfxCIvu .",
            "rsync --server --secluded-args .",
            "rsync --server --protect-args .",
            "rsync --server --rsh=sh . x",
            "rsync --server -M--config=x . x",
            "rsync --server --temp-dir -- --daemon --config=/tmp/x .",
            "rsync --server --suffix -- -s .",
            "rsync --server -e -- -s .",
            "rsync --server -e .",
            "rsync --server -vre -- -s .",
            "rsync --server -- .",
            "rsync --server . -- --daemon",
            "rsync --server -Bx .",
            "rsync --server . *",
            "rsync --server . ?-config=x",
            "rsync --server --c*g=x .",
            "rsync -e sh a b:c",
            "FOO=1 scp -t x",
            "/bin/scp -t x",
            "scp -t \"x\"",
            "scp -t x\\",
            "scp",
            "",
        ] {
            assert_eq!(access(command), None, "{command}");
        }
    }
}
