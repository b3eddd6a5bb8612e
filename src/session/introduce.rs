//! `ssh-config`: a block for the person's `~/.ssh/config`, in which each place that is open to them is a host.
//!
//! Editors offer the hosts of that file, and `ssh`, `scp` and `rsync` complete them. The keys are left to the person's own
//! ssh (`porthole login` puts them into its agent), so that nothing here can be wrong about a machine it never saw.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::exit::Failure;
use super::{Caller, Sessions};
use crate::audit::SessionId;
use crate::cluster::Place;
use crate::config::PublicAddress;

impl Sessions {
    /// The block; `asked` is where the person reaches Porthole, in place of what the configuration says.
    pub(super) async fn introduce(
        &self,
        caller: &Caller,
        session: &SessionId,
        asked: Option<&PublicAddress>,
    ) -> Result<String, Failure> {
        let address = asked.or(self.public_address.as_ref()).ok_or_else(|| {
            let line = "this porthole does not know by which name you reach it: say ssh-config HOST, or HOST:PORT";
            Failure::new("no_public_address", line)
        })?;
        Ok(block(address, &self.open_places(caller, session).await?))
    }
}

fn block(address: &PublicAddress, places: &[Arc<Place>]) -> String {
    // The pods of a workload come and go; its own name stays.
    let hosts = places.iter().map(|place| {
        let name = place.workload().map_or(place.pod(), |(_, workload)| workload);
        format!("{}.{name}", place.namespace())
    });
    let hosts: BTreeSet<_> = hosts.collect();
    let mut text = format!("# >>> porthole places at {address}: written by `ssh-config`, a change here is lost\n");
    for host in hosts {
        // Writing to a String does not fail.
        let _ = writeln!(text, "Host {host}\n    HostName {}\n    User {host}", address.host());
        if let Some(port) = address.port() {
            let _ = writeln!(text, "    Port {port}");
        }
    }
    let _ = writeln!(text, "# <<< porthole places at {address}");
    text
}
