//! Porthole: an SSH bastion into Kubernetes pods, through ephemeral containers.
//!
//! The modules stand in the order in which a connection meets them; ARCHITECTURE.md has the picture.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod connect;
pub mod login;
pub mod server;

pub mod listen;

pub mod ssh;

pub mod menu;

pub mod session;

pub mod auth;
pub mod target;

pub mod authorize;

pub mod cluster;

pub mod audit;
pub mod crowd;
pub mod recording;

pub mod outgoing;
pub mod telemetry;
pub mod watched;

pub mod playground;
