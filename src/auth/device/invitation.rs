//! What a person needs to approve a login: a link, and a code.
//!
//! Both are the provider's words and go to a terminal, so what could steer one, or is longer than anybody would read,
//! is not shown but refused.

use oauth2::StandardDeviceAuthorizationResponse;

use super::DeviceRefusal;

/// The longest link that a person can be asked to open.
const LINK_MAX_BYTES: usize = 512;
const CODE_MAX_BYTES: usize = 64;

/// Where to approve, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub link: String,
    pub code: String,
    /// Whether the link carries the code already.
    pub complete: bool,
}

impl Invitation {
    pub(super) fn read(answer: &StandardDeviceAuthorizationResponse) -> Result<Invitation, DeviceRefusal> {
        let complete = answer.verification_uri_complete().map(|link| link.secret().as_str());
        let link = complete.unwrap_or(answer.verification_uri().as_str()).to_owned();
        let code = answer.user_code().secret().clone();
        let broken = |problem: &str| DeviceRefusal::Broken(problem.to_owned());
        if !["https://", "http://"].iter().any(|scheme| link.starts_with(scheme)) || !plain(&link, LINK_MAX_BYTES) {
            return Err(broken("its link is none that a person could be shown"));
        }
        if !plain(&code, CODE_MAX_BYTES) {
            return Err(broken("its code is none that a person could be shown"));
        }
        Ok(Invitation { link, code, complete: complete.is_some() })
    }
}

fn plain(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && text.bytes().all(|byte| byte.is_ascii_graphic())
}
