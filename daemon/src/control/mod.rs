//! How the person's programs talk to a running daemon: one API on a Unix socket.
//!
//! [`model`] is what is said ([`attempt`] of how peers are reached, [`standing`] of what is thought of them,
//! [`doctor`] of what could be
//! better, [`messages`] of everything with a code, [`codes`] of codes for links), [`source`] reads what a
//! download names, [`wish`] which files of it are meant, [`words`] are for people, [`api`] puts it all on the
//! socket. The command line, and whatever face comes later, use the same routes; `curl --unix-socket` works as
//! well.
//!
//! Not here: what the daemon does about a request (the node implements [`api::Control`]).

pub mod api;
pub mod attempt;
pub mod codes;
pub mod doctor;
pub mod follow;
pub mod limits;
pub mod messages;
pub mod model;
pub mod source;
pub mod standing;
pub mod wish;
pub mod words;
