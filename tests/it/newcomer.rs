//! The playground as a newcomer has it: what `make run` prints, pasted into another terminal.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use crate::house::{PROGRAM, finish, text};

/// A form's.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// A playground with its greeting; it ends with the value.
struct Newcomer {
    greeting: String,
    process: Child,
    lifeline: Option<ChildStdin>,
    _root: tempfile::TempDir,
}

impl Newcomer {
    fn arrive() -> Newcomer {
        let root = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(PROGRAM)
            .args(["playground", "--until-stdin-ends", "--listen", "127.0.0.1:0", "--root"])
            .arg(root.path().join("playground"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lifeline = process.stdin.take();
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            assert!(output.read_line(&mut greeting).expect("readable") > 0, "it ended early: {greeting}");
        }
        Newcomer { greeting, process, lifeline, _root: root }
    }

    /// The line of the greeting that is to be pasted and holds `mark`.
    fn line(&self, mark: &str) -> &str {
        let pasted = self.greeting.lines().filter(|line| line.starts_with("    "));
        let mut found = pasted.filter(|line| line.contains(mark));
        found.next().unwrap_or_else(|| panic!("no line with {mark}: {}", self.greeting)).trim()
    }

    fn file(&self, name: &str) -> PathBuf {
        let config = self.line("@porthole-login").split(' ').nth(2).expect("ssh -F FILE");
        Path::new(config).with_file_name(name)
    }

    /// Where the provider's page is.
    fn page(&self) -> &str {
        self.line("curl").rsplit(' ').next().expect("its address")
    }

    fn password(&self) -> String {
        std::fs::read_to_string(self.file("password")).expect("it is there")
    }

    /// The pasted line with a command, begun.
    fn ssh(&self, command: &str) -> Child {
        let line = format!("exec {} '{command}'", self.line("@porthole-login"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.spawn().expect("a shell")
    }

    /// One POST to the page, with these fields and headers.
    fn post(&self, fields: Fields<'_>, headers: &[&str]) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-w", "\n%{http_code}", self.page()]);
        for (name, value) in fields {
            curl.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        for header in headers {
            curl.args(["-H", header]);
        }
        let answer = text(&finish(&mut curl).stdout);
        let (body, status) = answer.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.process.wait();
    }
}

/// What a begun `ssh` shows until it waits for its person: the code, and the rest of its standard error.
fn code(client: &mut Child) -> (String, BufReader<std::process::ChildStderr>) {
    let mut said = BufReader::new(client.stderr.take().expect("piped"));
    let mut line = String::new();
    loop {
        assert!(said.read_line(&mut line).expect("readable") > 0, "no code: {line}");
        if let Some((_, rest)) = line.split_once("user_code=") {
            return (rest.chars().take(9).collect(), said);
        }
    }
}

fn end(client: Child, mut said: BufReader<std::process::ChildStderr>) -> (Output, String) {
    // Read to the end, or it could stand still at a full pipe.
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut said, &mut rest);
        text(&rest)
    });
    let output = client.wait_with_output().expect("a child of ours");
    (output, reader.join().expect("it ends"))
}

#[test]
fn a_newcomer_logs_in_by_the_lines_of_the_greeting_and_is_not_asked_again() {
    let newcomer = Newcomer::arrive();
    let mut client = newcomer.ssh("echo in");
    let (code, said) = code(&mut client);
    let approve = newcomer.line("curl").replace("CODE", &code);
    let approved = finish(Command::new("sh").args(["-c", &format!("{approve} -sS")]));
    assert!(text(&approved.stdout).contains("Approved"), "{}{}", text(&approved.stdout), text(&approved.stderr));
    let (output, said) = end(client, said);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("in\n", Some(0)), "{said}");

    let again = newcomer.ssh("echo again").wait_with_output().expect("a child of ours");
    assert_eq!((text(&again.stdout), text(&again.stderr)), ("again\n".to_owned(), String::new()));
    let trail = std::fs::read_to_string(newcomer.file("audit.jsonl")).expect("it is there");
    for wanted in [r#""method":"device","subject":"mia""#, r#""method":"bound-key","subject":"mia""#] {
        assert!(trail.contains(wanted), "{wanted}: {trail}");
    }

    // The certificate's line is as silent as it was.
    let line = format!("{} 'echo dev'", newcomer.line("@porthole"));
    let dev = finish(Command::new("sh").args(["-c", &line]).stdin(Stdio::null()));
    assert_eq!((text(&dev.stdout), text(&dev.stderr)), ("dev\n".to_owned(), String::new()));
}

#[test]
fn whom_a_newcomer_chooses_decides_what_they_may_do() {
    for (person, may) in [("noor", true), ("sam", false)] {
        let newcomer = Newcomer::arrive();
        let mut client = newcomer.ssh("echo in");
        let (code, said) = code(&mut client);
        let (status, body) =
            newcomer.post(&[("user_code", &code), ("person", person), ("password", &newcomer.password())], &[]);
        assert_eq!(status, "200", "{body}");
        let (output, said) = end(client, said);
        assert_eq!(text(&output.stdout) == "in\n", may, "{person}: {said}");
        assert_eq!(output.status.code(), Some(if may { 0 } else { 254 }), "{person}: {said}");
    }
}

/// Whoever can reach loopback could become a person of the playground's, and a person of the playground's runs
/// commands as the user who started it.
#[test]
fn nothing_is_approved_without_the_password_or_by_another_sites_page() {
    let newcomer = Newcomer::arrive();
    let mut client = newcomer.ssh("echo in");
    let (code, said) = code(&mut client);
    let password = newcomer.password();
    let own = newcomer.page().trim_end_matches("/device").to_owned();
    let (origin, host) = (format!("Origin: {own}"), own.trim_start_matches("http://").to_owned());
    let fields = |password| [("user_code", code.as_str()), ("person", "mia"), ("password", password)];
    let good = fields(&password);
    let table: [(Fields<'_>, &[&str], &str); 9] = [
        (&fields("guess"), &[], "403"),
        (&fields(""), &[], "403"),
        (&good[..2], &[], "422"),
        (&good, &["Origin: https://evil.example"], "403"),
        (&good, &["Origin: null"], "403"),
        (&good, &["Sec-Fetch-Site: cross-site", &origin], "403"),
        // Another site whose name was made to point to loopback.
        (&good, &["Host: evil.example", "Origin: http://evil.example"], "403"),
        (&[("user_code", "BBBB-BBBB"), good[1], good[2]], &[], "404"),
        (&[good[0], ("person", "root"), good[2]], &[], "400"),
    ];
    for (fields, headers, expected) in table {
        let (status, body) = newcomer.post(fields, headers);
        assert_eq!(status, expected, "{fields:?} {headers:?}: {body}");
    }
    let form = finish(Command::new("curl").args(["-sS", "-i", &format!("{}?user_code={code}", newcomer.page())]));
    let form = text(&form.stdout);
    assert!(form.contains(&format!("value=\"{code}\"")) && form.contains("It is a playground"), "{form}");
    assert!(form.contains("form-action 'self'; frame-ancestors 'none'"), "{form}");
    let odd = finish(Command::new("curl").args(["-sS", &format!("{}?user_code=%22%3E%3Cscript%3E", newcomer.page())]));
    assert!(!text(&odd.stdout).contains("<script"), "{}", text(&odd.stdout));
    // Nothing of that was a decision: its own form, as a browser sends it, still is one, and a no is a no.
    let browser = [origin.as_str(), "Sec-Fetch-Site: same-origin", &format!("Host: {host}")];
    let (status, body) = newcomer.post(&[&good[..], &[("answer", "deny")]].concat(), &browser);
    assert_eq!(status, "200", "{body}");
    let (output, said) = end(client, said);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), String::new()));
    assert!(said.contains("was denied"), "{said}");
}
