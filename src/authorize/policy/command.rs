//! Commands by glob, word by word.
//!
//! A command is not a program with its arguments but a text that a shell reads: `ls *` as a plain glob would also fit
//! `ls; rm -rf /`. So `*`, `?` and their kin stand only in for commands that a shell takes as plain words; anything
//! with a quote, a semicolon, a `$`, a line break or an assignment before it fits only a pattern that spells it out
//! from end to end, or `*` alone, which is any command at all.
//!
//! And each word of a pattern is about one word of the command, since a program reads words: `ls -l /var/log/*` must
//! not fit `ls -l /var/log/x /root/.ssh`. What a wildcard stands for never climbs: `/var/log/../../etc/shadow` begins
//! with `/var/log/`, and is not below it. Only a last word that is `*` is any words, one or more, whatever they are.
//!
//! Commands can be allowed and not denied: a shell has endless ways to spell the same one.

use std::fmt;
use std::str::FromStr;

use super::pattern::Glob;

/// One pattern for the command of `exec` and `files`.
#[derive(Debug, Clone)]
pub(super) enum CommandGlob {
    Any,
    Pattern {
        text: String,
        words: Vec<Glob>,
        /// Whether a last word `*` follows, which is any further words.
        and_more: bool,
    },
}

impl CommandGlob {
    pub(super) fn fits(&self, command: &str) -> bool {
        match self {
            CommandGlob::Any => true,
            CommandGlob::Pattern { text, .. } if text == command => true,
            CommandGlob::Pattern { words, and_more, .. } => {
                let mut given = command.split_ascii_whitespace();
                is_plain(command)
                    && words.iter().all(|glob| given.next().is_some_and(|word| word_fits(glob, word)))
                    && given.next().is_some() == *and_more
            }
        }
    }
}

/// Whether one word of a pattern fits one word of a command.
fn word_fits(glob: &Glob, word: &str) -> bool {
    glob.fits(word) && (glob.exactly().is_some() || word.split('/').all(|part| part != ".."))
}

impl FromStr for CommandGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<CommandGlob, String> {
        if text == "*" {
            return Ok(CommandGlob::Any);
        }
        let whole: Glob = text.parse()?;
        let (front, and_more) = match text.strip_suffix(" *") {
            Some(front) if !front.trim_ascii().is_empty() => (front, true),
            _ => (text, false),
        };
        let across = |problem| format!("{problem}; each word is a glob of its own, so write `{text}` as several");
        let words = front.split_ascii_whitespace().map(|word| word.parse().map_err(across));
        let words = words.collect::<Result<Vec<Glob>, _>>()?;
        match words.first() {
            Some(first) if whole.exactly().is_none() && first.to_string().contains('=') => Err(format!(
                "`{text}` begins with an assignment, which no wildcard goes with: spell the whole command out"
            )),
            _ => Ok(CommandGlob::Pattern { text: text.to_owned(), words, and_more }),
        }
    }
}

impl fmt::Display for CommandGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandGlob::Any => f.write_str("*"),
            CommandGlob::Pattern { text, .. } => f.write_str(text),
        }
    }
}

/// Whether a POSIX shell takes this as one simple command of plain words: no expansion, no second command, no
/// redirection, and no assignment, which a `=` in the first word would be. A list of what is harmless rather than of
/// what is not.
pub(super) fn is_plain(command: &str) -> bool {
    let assigns = command.split_ascii_whitespace().next().is_some_and(|first| first.contains('='));
    !assigns && command.chars().all(|letter| letter.is_alphanumeric() || " -_./:,@+=%".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_never_stands_in_for_what_a_shell_would_take_for_more() {
        let fits = |pattern: &str, command: &str| pattern.parse::<CommandGlob>().unwrap().fits(command);
        assert!(fits("ls *", "ls -l /var/log/app.log"));
        assert!(fits("psql", "psql"));
        assert!(fits("psql -c 'select 1'", "psql -c 'select 1'"));
        assert!(fits("{ps,top} -b", "top -b"));
        assert!(!fits("psql", "psql -c 'drop table x'"));
        assert!(!fits("ls", "ls -l"));
        assert!(!fits("psql -c '*'", "psql -c 'select 1'"));
        for more in [
            "; id",
            "| sh",
            "&& id",
            "& id",
            "$(id)",
            "`id`",
            "\nid",
            "> /etc/passwd",
            "< x",
            "'a'",
            "\"a\"",
            "\\",
            "#",
            "~",
            "{a,b}",
            "*",
            "\r",
            "\t",
            "\0",
            "!",
            "(id)",
            "[a]",
            "$IFS",
        ] {
            let command = format!("ls a{more}");
            assert!(!fits("ls *", &command), "{command:?}");
            assert!(!fits("*ls*", &command), "{command:?}");
            assert!(fits("*", &command), "{command:?}");
        }
    }

    /// `ls -l /var/log/*` was in a policy, and `ls -l /var/log/../../etc/shadow` ran.
    #[test]
    fn a_wildcard_stays_in_its_word_and_below_its_folder() {
        let fits = |pattern: &str, command: &str| pattern.parse::<CommandGlob>().unwrap().fits(command);
        for (pattern, command, expected) in [
            ("ls -l /var/log/*", "ls -l /var/log/app.log", true),
            ("ls -l /var/log/*", "ls  -l /var/log/nginx/a..b", true),
            ("ls -l /var/log/*", "ls -l /var/log/../../etc/shadow", false),
            ("ls -l /var/log/*", "ls -l /var/log/x/..", false),
            ("ls -l /var/log/*", "ls -l /var/log/x /root/.ssh", false),
            ("ls -l /var/log/*", "ls -l /var/log/", true),
            ("ls /var/log/?? -l", "ls /var/log/.. -l", false),
            ("ls /var/log/[.][.]", "ls /var/log/..", false),
            ("tail --file=/var/log/*", "tail --file=/var/log/../x", false),
            ("ls ../logs", "ls  ../logs", true),
            ("ls * -l", "ls /a -l", true),
            ("ls * -l", "ls /a /b -l", false),
            ("ls *", "ls -l -a ../..", true),
            ("ls *", "ls", false),
            ("ls *", "ls ", false),
            ("ls*", "lsof -i", false),
            (" *", "ls", true),
            (" *", "ls -l", false),
        ] {
            assert_eq!(fits(pattern, command), expected, "{command:?} by {pattern:?}");
        }
        let across = "{ls -l,df -h}".parse::<CommandGlob>().unwrap_err();
        assert!(across.contains("each word is a glob of its own"), "{across}");
    }

    /// `commands = "*/id *"` let `PATH=/tmp/id x` run.
    #[test]
    fn an_assignment_is_no_program() {
        let fits = |pattern: &str, command: &str| pattern.parse::<CommandGlob>().unwrap().fits(command);
        assert!(fits("*/id *", "/usr/bin/id -u"));
        assert!(!fits("*/id *", "PATH=/tmp/id x"));
        assert!(!fits("*/id *", " LD_PRELOAD=/tmp/id x"));
        assert!(!fits("* -u", "PATH=/tmp -u"));
        assert!(fits("dd if=*", "dd if=/dev/null"));
        assert!(fits("TZ=UTC date", "TZ=UTC date"));
        assert!(fits("*", "PATH=/tmp/id x"));
        let assigns = "TZ=* date".parse::<CommandGlob>().unwrap_err();
        assert!(assigns.contains("begins with an assignment"), "{assigns}");
    }
}
