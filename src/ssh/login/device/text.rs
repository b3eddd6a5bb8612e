//! What a person reads at a device login.
//!
//! It names the place, the address and the key that the login is for, since somebody who was sent the link by a stranger
//! has nothing else to tell by that it is not their own. Login names are the client's words, and shown without what
//! could steer a terminal.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use qrcode::{Color, QrCode};

use crate::auth::device::Invitation;

/// OpenSSH writes a request's text as one line of its log, which it cuts at 1,023 bytes.
const ROUND_MAX_BYTES: usize = 900;
/// A login name is at most so long; what is longer is refused later, and need not be read before.
const PLACE_SHOWN_CHARS: usize = 253;
/// The light border that readers of QR codes look for, in modules.
const QUIET_ZONE: usize = 2;

/// What one login is for.
pub struct Prompt<'a> {
    pub place: &'a str,
    pub address: IpAddr,
    pub fingerprint: Option<&'a str>,
    pub deadline: Duration,
    pub lifetime: Duration,
    pub qr_code: bool,
}

impl Prompt<'_> {
    /// The texts, one a round.
    pub fn texts(&self, invitation: &Invitation) -> VecDeque<String> {
        let place: String = self.place.chars().filter(|c| c.is_ascii_graphic()).take(PLACE_SHOWN_CHARS).collect();
        let Invitation { link, code, complete } = invitation;
        let how = if *complete { "the code there must be" } else { "and enter the code" };
        let deadline = spoken(self.deadline);
        let mut said = format!(
            "porthole: to enter {place}, open this link within {deadline}, {how} {code}\n\n    {link}\n\n\
             It is for you at {} alone: approve no login that you did not begin.",
            self.address
        );
        if let Some(fingerprint) = self.fingerprint {
            let lifetime = spoken(self.lifetime);
            said.push_str(&format!("\nYour key {fingerprint} will not be asked again for {lifetime}."));
        }
        let mut texts = VecDeque::from([said]);
        if self.qr_code {
            texts.extend(picture(link));
        }
        texts
    }
}

/// `5 minutes`, `8 hours`.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        _ => (seconds / 3600, "hour"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// The link as a picture of `#`, light on dark: OpenSSH escapes every character that is not ASCII here. A link that is
/// too long for one has none.
fn picture(link: &str) -> Vec<String> {
    let Ok(code) = QrCode::with_error_correction_level(link, qrcode::EcLevel::L) else { return Vec::new() };
    let width = code.width();
    let side = width + 2 * QUIET_ZONE;
    let light = |x: usize, y: usize| match (x.checked_sub(QUIET_ZONE), y.checked_sub(QUIET_ZONE)) {
        (Some(x), Some(y)) if x < width && y < width => code[(x, y)] == Color::Light,
        _ => true,
    };
    let lines = (0..side).map(|y| (0..side).map(|x| if light(x, y) { "##" } else { "  " }).collect::<String>());
    let mut texts: Vec<String> = Vec::new();
    for line in lines {
        match texts.last_mut() {
            Some(text) if text.len() + 1 + line.len() <= ROUND_MAX_BYTES => {
                text.push('\n');
                text.push_str(&line);
            }
            _ => texts.push(line),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(qr_code: bool) -> VecDeque<String> {
        let prompt = Prompt {
            place: "payments.web\u{1b}[2J",
            address: IpAddr::from([192, 0, 2, 1]),
            fingerprint: Some("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"),
            deadline: Duration::from_secs(300),
            lifetime: Duration::from_secs(8 * 3600),
            qr_code,
        };
        let link = format!("https://login.example.com/device?user_code=ABCD-EFGH&hint={}", "x".repeat(200));
        prompt.texts(&Invitation { link, code: "ABCD-EFGH".to_owned(), complete: true })
    }

    #[test]
    fn the_prompt_says_what_the_login_is_for_and_steers_no_terminal() {
        let texts = prompt(false);
        let text = texts.front().expect("a text");
        for word in ["payments.web", "192.0.2.1", "SHA256:47DEQ", "ABCD-EFGH", "https://", "5 minutes", "8 hours"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn every_round_is_short_enough_for_openssh() {
        let texts = prompt(true);
        assert!(texts.len() > 2, "a picture takes several rounds");
        for text in texts {
            assert!(text.len() < 1000 && text.is_ascii(), "{} bytes: {text}", text.len());
        }
    }
}
