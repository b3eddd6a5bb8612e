//! Through the company's gateway: load balancers that say PROXY, and WebSockets that bring a token.
//!
//! HAProxy and nginx are the real ones, started here on loopback; where one is not installed, its tests say so and pass.

mod certificate;
mod frames;
mod issuer;
mod programs;
mod proxy_protocol;
pub mod request;
mod websocket;
