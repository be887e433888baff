//! What both programs need to be run as services, whoever starts them.
//!
//! [`settings`] takes what the command line does not say from the environment and from a file,
//! [`notify`] tells the service manager how things are, [`manual`] writes manual pages and shell
//! completions.
//!
//! Not here: what can be set (the command lines of the programs), and what is done with it.

pub mod manual;
pub mod notify;
pub mod settings;
