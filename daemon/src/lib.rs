//! placeholder
pub mod home;
pub mod store;
