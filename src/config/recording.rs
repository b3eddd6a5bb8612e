//! Where what people see is recorded, where their grant asks for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Recordings, as asciicast files.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Recording {
    /// None: nothing can be recorded, so what must be is refused.
    pub folder: Option<PathBuf>,
    /// The longest file.
    pub max_bytes: u64,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording { folder: None, max_bytes: 256 << 20 }
    }
}
