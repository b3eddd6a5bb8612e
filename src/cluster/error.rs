//! What can go wrong on the way into a pod. Each failure has a code, a text for the operator (`Display`) and a line for
//! the person.

#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ConnectError {
    detail: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ResolveError {
    detail: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct StartError {
    code: &'static str,
    detail: String,
    person: String,
    container: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{0} is not the pod itself")]
    NotThePod(String),
    #[error("{detail}")]
    Failed { code: &'static str, detail: String, person: String },
}

/// The stream to the pod has ended; there is nobody to write to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the connection to the pod is lost: {0}")]
pub struct Lost(pub String);

impl ConnectError {
    pub fn code(&self) -> &'static str {
        todo!()
    }
}

impl ResolveError {
    pub fn code(&self) -> &'static str {
        todo!()
    }

    pub fn person(&self) -> String {
        todo!()
    }
}

impl StartError {
    /// The task that was starting the process ended before it could say how.
    pub fn aborted() -> StartError {
        todo!()
    }

    /// The ephemeral container that was asked for, if it came to that.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn person(&self) -> String {
        self.person.clone()
    }
}

impl DialError {
    pub fn code(&self) -> &'static str {
        todo!()
    }

    pub fn person(&self) -> String {
        todo!()
    }
}
