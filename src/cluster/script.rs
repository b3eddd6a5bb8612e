//! The wrapper: the few lines of shell that stand between Kubernetes and the program.
//!
//! Attach has four faults that the wrapper makes good. What is written before the attach is lost: so nothing runs
//! before it. The exit status never comes: so the wrapper says it. The terminal's size comes late: so it is set before
//! the program's first byte. And a container that nobody attaches to would wait for ever: so a watchdog ends it.
//!
//! It comes in two parts. `ENTRYPOINT` is the ephemeral container's command: it reads lines from stdin up to an empty
//! one, and runs what they say. Those lines, the second part, are made by `Order` for each process, and sent after the
//! attach. So the command line, the client's variables and the secrets in them do not stay in the pod's spec, the spec
//! stays small (an ephemeral container is never removed), and no `$(NAME)` in them is expanded by the kubelet.
//!
//! The shell may be dash, busybox's ash, bash, or any other that keeps to POSIX. It stays the program's parent: a program
//! that is process 1 of its namespace would ignore Ctrl-C. The shell itself survives Ctrl-C by a handler that does
//! nothing, which, unlike an ignored signal, its children do not inherit.

use super::marker;
use super::process::{Program, WindowSize};

/// How long a container waits for somebody to attach, in seconds; longer than any start that is waited for.
const WATCHDOG_SECONDS: u32 = 90;
/// The longest command line. One argument of a Linux process has at most 128 KiB.
pub const COMMAND_MAX_BYTES: usize = 64 * 1024;
/// A terminal takes no line of 4096 bytes or more.
const LINE_MAX_BYTES: usize = 1024;
/// Where distributions put the file server: Debian, BusyBox-like builds, Fedora, Alpine and SUSE, Arch.
const SFTP_SERVERS: &str = "/usr/lib/openssh/sftp-server /usr/libexec/sftp-server /usr/libexec/openssh/sftp-server \
                            /usr/lib/ssh/sftp-server /usr/lib/sftp-server";
/// The status of Porthole's own failures.
const FAILURE_STATUS: u8 = 254;

/// The command of the ephemeral container. Without `sleep` in the image there is no watchdog.
///
/// The watchdog is waited for, and it waits for its `sleep`: in a shared process namespace an orphan goes to the target's
/// own first process, which seldom buries the dead. It must end whenever it is told, so it tells `sleep` in a way that
/// cannot be missed, and names it by `$!`, which is set before any trap can run.
///
/// Its dollar signs are doubled, as the kubelet halves them (it expands `$(NAME)`).
pub(super) fn entrypoint() -> Vec<String> {
    let script = format!(
        "trap : INT QUIT\n\
         trap 'exit {FAILURE_STATUS}' ALRM\n\
         (exec >/dev/null 2>&1; trap 'kill -9 $!; wait $!; exit' TERM; sleep {WATCHDOG_SECONDS} & wait $! && kill -s ALRM $$) &\n\
         w=$! r= o=\n\
         stty -echo 2>/dev/null\n\
         while IFS= read -r l; do [ \"$l\" ] || {{ o=1; break; }}; r=$r$l; done\n\
         {{ kill $w; wait $w; }} 2>/dev/null\n\
         [ \"$o\" ] || exit {FAILURE_STATUS}\n\
         r=`printf %b \"$r\"`\n\
         eval \"$r\""
    );
    ["sh", "-c", &unexpanded(&script), "porthole"].map(str::to_owned).to_vec()
}

/// What the wrapper waits for between its first word and the program, where there is no terminal: stderr comes by a way of
/// its own there and could overtake that word.
pub(super) const GO: &[u8] = b"\n";

/// Text that the kubelet's expansion turns into `text`.
pub(super) fn unexpanded(text: &str) -> String {
    text.replace('$', "$$")
}

/// What the wrapper is to do.
pub(super) struct Order<'a> {
    pub secret: &'a str,
    pub program: &'a Program,
    /// The client's variables.
    pub env: &'a [(String, String)],
    pub shell: Option<&'a str>,
    pub size: Option<WindowSize>,
    pub image: &'a str,
    pub profile_name: &'a str,
    pub session: &'a str,
}

impl Order<'_> {
    /// The bytes to send: printable ASCII in short lines, which no terminal changes, and an empty line.
    pub fn lines(&self) -> Vec<u8> {
        let text = self.script().bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b'\\' => text.push_str("\\0134"),
                b' '..=b'~' => text.push(char::from(byte)),
                other => text.push_str(&format!("\\0{other:03o}")),
            }
            text
        });
        let lines = text.as_bytes().chunks(LINE_MAX_BYTES);
        lines.flat_map(|line| [line, b"\n"]).chain([b"\n".as_slice()]).flatten().copied().collect()
    }

    fn script(&self) -> String {
        // The separator is an octal escape of printf, so it does not stand in what a terminal echoes.
        let say = format!("printf '\\036{}%s\\036'", &marker::prefix(self.secret)[1..]);
        let (size, go) = match self.size {
            Some(WindowSize { rows, columns }) => {
                (format!("stty echo rows {rows} cols {columns} 2>/dev/null || stty echo 2>/dev/null\n"), String::new())
            }
            None => (String::new(), format!("\nIFS= read -r l || exit {FAILURE_STATUS}")),
        };
        let shell = match self.shell {
            Some(shell) => format!("s={}", quoted(shell)),
            None => "s=sh; command -v bash >/dev/null 2>&1 && s=bash".to_owned(),
        };
        let env = self.env.iter().filter(|(name, value)| is_variable(name) && !value.contains('\0'));
        let env: String = env.map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect();
        let run = self.run();
        format!("trap - ALRM\n{size}{env}{shell}\n{say} $${go}\n{run}\ne=$?\n{say} $e\nexit $e")
    }

    fn run(&self) -> String {
        match self.program {
            Program::Shell => "\"$s\" -l".to_owned(),
            Program::Sftp { read_only } => {
                let flag = if *read_only { " -R" } else { "" };
                let find = format!(
                    "p=\nfor f in {SFTP_SERVERS}; do [ -x $f ] && p=$f && break; done\n\
                     [ \"$p\" ] || p=`command -v sftp-server`"
                );
                format!("{find}\nif [ \"$p\" ]; then \"$p\"{flag}; else {}; fi", self.missing("sftp-server"))
            }
            Program::Command(command) => {
                let run = format!("\"$s\" -c {}", quoted(command));
                match command.split(' ').next() {
                    Some(copier @ ("scp" | "rsync")) => {
                        let missing = self.missing(copier);
                        format!("if command -v {copier} >/dev/null 2>&1; then {run}; else {missing}; fi")
                    }
                    _ => run,
                }
            }
        }
    }

    fn missing(&self, program: &str) -> String {
        let Order { image, profile_name, session, .. } = self;
        let line = format!(
            "porthole: the image {image} of the profile {profile_name} has no {program}: \
             log in with another profile (name~profile), or ask for an image that has it (session {session})\n"
        );
        format!("{{ printf %s {} >&2; (exit {FAILURE_STATUS}); }}", quoted(&line))
    }
}

/// What a shell takes for a variable's name.
fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// One word of the shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// The shells of this machine that may be an image's `sh`.
    fn shells() -> Vec<Vec<&'static str>> {
        let all = [vec!["dash"], vec!["bash"], vec!["bash", "--posix"], vec!["busybox", "sh"], vec!["sh"]];
        let there = |shell: &Vec<&str>| Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).output().is_ok();
        all.into_iter().filter(there).collect()
    }

    fn order<'a>(program: &'a Program, shell: Option<&'a str>) -> Order<'a> {
        Order {
            secret: "k3ab",
            program,
            env: &[],
            shell,
            size: None,
            image: "im'age",
            profile_name: "p",
            session: "abc-1",
        }
    }

    /// Runs the wrapper as a container would, with the kubelet's expansion undone.
    fn run(shell: &[&str], input: &[u8], change: fn(String) -> String) -> Output {
        let script = change(entrypoint()[2].replace("$$", "$"));
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", &script, "porthole"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the shell is there");
        child.stdin.take().expect("it is a pipe").write_all(input).expect("the wrapper reads its order");
        child.wait_with_output().expect("it ends")
    }

    fn said(output: &Output) -> (String, String, Option<i32>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The process id is the one thing that differs.
        let stdout = text(&output.stdout);
        let body = stdout.strip_prefix("\x1eporthole:k3ab:").and_then(|rest| rest.split_once('\x1e'));
        let stdout = body.map_or_else(|| format!("no marker in {stdout:?}"), |(_, rest)| rest.to_owned());
        (stdout, text(&output.stderr), output.status.code())
    }

    #[test]
    fn every_shell_runs_the_order_and_tells_the_status() {
        let odd = "echo \"it's $0 \\\\ \t$((1+1))\"; echo err >&2; cat; (exit 7)";
        for shell in shells() {
            let program = Program::Command(odd.to_owned());
            let input = [order(&program, Some("sh")).lines(), GO.to_vec(), b"input\n".to_vec()].concat();
            let expected = "it's sh \\ \t2\ninput\n\x1eporthole:k3ab:7\x1e";
            let (stdout, stderr, status) = said(&run(&shell, &input, |script| script));
            assert_eq!((&*stdout, &*stderr, status), (expected, "err\n", Some(7)), "{shell:?}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_image_and_profile() {
        let line = "porthole: the image im'age of the profile p has no rsync: log in with another profile \
                    (name~profile), or ask for an image that has it (session abc-1)\n";
        for shell in shells() {
            let program = Program::Command("rsync --server . .".to_owned());
            let missing = Order { secret: "k3ab", ..order(&program, Some("sh")) };
            let input = [missing.lines(), GO.to_vec()].concat();
            let without = |script: String| format!("PATH=/nowhere\n{script}");
            let (stdout, stderr, status) = said(&run(&shell, &input, without));
            assert_eq!((&*stdout, &*stderr, status), ("\x1eporthole:k3ab:254\x1e", line, Some(254)), "{shell:?}");
        }
    }

    #[test]
    fn a_client_that_leaves_before_its_order_is_whole_runs_nothing() {
        for shell in shells() {
            let program = Program::Command("echo no".to_owned());
            let lines = order(&program, None).lines();
            for end in [0, 1, lines.len() - 1] {
                let output = run(&shell, &lines[..end], |script| script);
                assert_eq!((&*output.stdout, output.status.code()), (b"".as_slice(), Some(254)), "{shell:?} {end}");
            }
            let output = run(&shell, &lines, |script| script);
            let (stdout, _, status) = said(&output);
            assert_eq!((&*stdout, status), ("", Some(254)), "{shell:?}: nothing runs without the go");
        }
    }

    #[test]
    fn nobody_comes_and_the_watchdog_ends_it() {
        for shell in shells() {
            let script = entrypoint()[2].replace("$$", "$").replace("sleep 90", "sleep 1");
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).args(["-c", &script, "porthole"]).stdin(Stdio::piped());
            let began = Instant::now();
            let mut child = command.spawn().expect("the shell is there");
            let _stdin = child.stdin.take();
            assert_eq!(child.wait().expect("it ends").code(), Some(254), "{shell:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{shell:?}");
        }
    }

    #[test]
    fn an_order_is_short_lines_of_plain_characters() {
        let program = Program::Command("\u{0}\u{3}\r\n\u{e9}\\".repeat(2000));
        let lines = order(&program, None).lines();
        assert!(lines.ends_with(b"\n\n"));
        for line in lines.split(|byte| *byte == b'\n') {
            assert!(line.len() <= LINE_MAX_BYTES && line.iter().all(|byte| (b' '..=b'~').contains(byte)));
        }
    }
}
