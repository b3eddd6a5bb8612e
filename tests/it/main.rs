//! Porthole through its front door: the real program, a real `ssh`, and a cluster.
//!
//! The cluster is the playground's, or the one that `PORTHOLE_TEST_KUBECONFIG` names: the same tests run on both.

mod house;

mod access_review;
mod authorize;
mod certificates;
mod crowd;
mod deployed;
mod device;
mod dex;
mod door;
mod faults;
mod files;
mod forged;
mod forwards;
mod gateway;
mod hostile;
mod issuer;
mod keyboard;
mod lifecycle;
mod login;
mod login_end;
mod menu;
mod newcomer;
mod obligations;
mod openpubkey;
mod outage;
mod pk_token;
mod playground;
mod provider;
mod reference;
mod refusals;
mod registry;
mod rotation;
mod screen;
mod step_ca;
mod terminal;
mod tidy;
mod wire;
