//! The API as a client meets it: over a socket, with tokens out of a file, on an engine that runs real modules.

mod access_table;
mod audited;
mod changes;
mod described;
mod hostile;
mod identity;
mod page;
mod secure;
mod support;
