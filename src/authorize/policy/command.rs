//! Commands by glob.
//!
//! A command is not a program with its arguments but a text that a shell reads: `ls *` as a plain glob would also fit
//! `ls; rm -rf /`. So `*`, `?` and their kin stand only in for commands that a shell takes as plain words; anything
//! with a quote, a semicolon, a `$` or a line break fits only a pattern that spells it out from end to end, or `*`
//! alone, which is any command at all.
//!
//! Commands can be allowed and not denied: a shell has endless ways to spell the same one.

use std::fmt;
use std::str::FromStr;

use super::pattern::Glob;

/// One pattern for the command of `exec` and `files`.
#[derive(Debug, Clone)]
pub(super) enum CommandGlob {
    Any,
    Pattern { text: String, glob: Glob },
}

impl CommandGlob {
    pub(super) fn fits(&self, command: &str) -> bool {
        match self {
            CommandGlob::Any => true,
            CommandGlob::Pattern { text, glob } => text == command || (is_plain(command) && glob.fits(command)),
        }
    }
}

impl FromStr for CommandGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<CommandGlob, String> {
        match text {
            "*" => Ok(CommandGlob::Any),
            _ => Ok(CommandGlob::Pattern { text: text.to_owned(), glob: text.parse()? }),
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
/// redirection. A list of what is harmless rather than of what is not.
pub(super) fn is_plain(command: &str) -> bool {
    command.chars().all(|letter| letter.is_alphanumeric() || " -_./:,@+=%".contains(letter))
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
}
