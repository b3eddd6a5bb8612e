//! The removal of what has ended, on a cluster: the one that `PORTHOLE_TEST_KUBECONFIG` names, else the playground.

use std::net::IpAddr;

use super::*;
use crate::cluster::tests::kubeconfig;

const PATIENCE: Duration = Duration::from_secs(30);

fn binding(fingerprint: &str, until: &str) -> Binding {
    Binding {
        fingerprint: fingerprint.to_owned(),
        subject: "mia".to_owned(),
        name: None,
        email: None,
        groups: Vec::new(),
        issuer: None,
        address: IpAddr::from([192, 0, 2, 1]),
        until: until.parse().expect("a time"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_removed_and_what_was_written_meanwhile_stays() {
    let Some((kubeconfig, emulator)) = kubeconfig().await else { return };
    let settings = config::Cluster { kubeconfig: Some(kubeconfig), ..config::Cluster::default() };
    let api = ApiServer::open(&settings).await.unwrap();
    // In a real cluster there is a right to it in Porthole's own namespace alone.
    let namespace = if emulator.is_none() { "porthole" } else { "demo" };
    let store = StoredBindings::open(&api, Some(namespace), Arc::default(), PATIENCE).await.unwrap();
    let (renewed, left) = ("SHA256:renewed", "SHA256:left");
    let list = async || leases(&api, namespace).list(&ListParams::default()).await.unwrap().items;
    let (past, future) = ("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z");

    store.write(&binding(renewed, past)).await.unwrap();
    store.write(&binding(left, past)).await.unwrap();
    let seen = list().await.into_iter().find(|lease| lease.metadata.name == Some(name(renewed))).unwrap();
    store.write(&binding(renewed, future)).await.unwrap();
    remove_seen(&api, namespace, &seen).await.unwrap();
    sweep(&api, namespace).await;
    let there: Vec<_> = list().await.iter().filter_map(read).map(|binding| binding.fingerprint).collect();
    assert!(there.iter().any(|key| key == renewed) && !there.iter().any(|key| key == left), "{there:?}");
    remove(&api, namespace, renewed).await.unwrap();
}
