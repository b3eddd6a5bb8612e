//! Bindings in this process alone: for the playground, for one replica, and where nobody minds to be asked again after a
//! restart.

use futures_util::future::BoxFuture;

use super::{Binding, BindingStore, BindingStoreError};

/// What is known is all that there is.
#[derive(Debug, Default)]
pub struct Memory;

impl BindingStore for Memory {
    fn keep<'a>(&'a self, _: &'a Binding) -> BoxFuture<'a, Result<(), BindingStoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn is_lasting(&self) -> bool {
        false
    }
}
