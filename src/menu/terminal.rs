//! What a terminal can show, by its name and by what the client says of its language.

/// What the menu may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// A screen with positions; without, the menu is lines.
    pub screen: bool,
    pub colors: bool,
    /// More than ASCII.
    pub unicode: bool,
}

/// Families of terminals that know ECMA-48's positions; a name is one of these, or goes on after it.
const SCREENS: [&str; 26] = [
    "xterm",
    "screen",
    "tmux",
    "vt100",
    "vt102",
    "vt220",
    "vt320",
    "vt420",
    "vt520",
    "linux",
    "rxvt",
    "alacritty",
    "foot",
    "kitty",
    "wezterm",
    "ghostty",
    "st",
    "konsole",
    "gnome",
    "vte",
    "putty",
    "iterm",
    "iTerm",
    "nsterm",
    "contour",
    "ms-terminal",
];

impl Features {
    pub fn of(name: &str, env: &[(String, String)]) -> Features {
        let value = |wanted: &str| {
            let found = env.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let is_of = |family: &str| {
            name.strip_prefix(family).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
        };
        // The first that is set decides, as POSIX has it; where a client sends none, it is taken for one of today.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(value);
        Features {
            screen: SCREENS.into_iter().any(is_of),
            colors: !name.starts_with("vt") && !name.ends_with("-mono") && value("NO_COLOR").is_none(),
            unicode: locale.is_none_or(|locale| {
                let locale = locale.to_ascii_lowercase();
                locale.contains("utf-8") || locale.contains("utf8")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_known_by_its_family_and_others_get_lines() {
        let of = |name: &str, env: &[(&str, &str)]| {
            let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Features::of(name, &env)
        };
        for name in ["xterm", "xterm-256color", "tmux-256color", "screen.xterm-256color", "st-256color", "linux"] {
            assert_eq!(of(name, &[]), Features { screen: true, colors: true, unicode: true }, "{name}");
        }
        for name in ["", "dumb", "unknown", "emacs", "stx", "xtermite", "network"] {
            assert!(!of(name, &[]).screen, "{name}");
        }
        assert!(!of("vt100", &[]).colors && of("vt100", &[]).screen);
        assert!(!of("xterm", &[("NO_COLOR", "1")]).colors && of("xterm", &[("NO_COLOR", "")]).colors);
        assert!(
            !of("xterm", &[("LANG", "C")]).unicode && !of("xterm", &[("LC_ALL", "C"), ("LANG", "x.UTF-8")]).unicode
        );
        assert!(of("xterm", &[("LANG", "de_DE.utf8")]).unicode);
    }
}
