//! Porthole: an SSH bastion into Kubernetes pods, through ephemeral containers.
//!
//! The modules stand in the order in which a connection meets them; ARCHITECTURE.md has the picture.
#![forbid(unsafe_code)]

pub mod audit;
pub mod auth;
pub mod authorize;
pub mod cluster;
pub mod config;
pub mod target;
pub mod watched;
