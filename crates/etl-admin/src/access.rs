//! Who may do what.
//!
//! A caller shows a token or a certificate; the store (`store`) knows whose it is, and the gate (`gate`) decides whether to believe it.
//! What comes out is an [`Identity`]: a name, a [`Role`] and the pipelines that it is about. Routes say which role they need; nothing
//! else decides.

mod gate;
mod scope;
mod store;
mod token;

pub(crate) use gate::{Doubt, Gate, network};
pub use scope::Scope;
pub use store::{AccessError, Entry, NewEntry, Store};
pub(crate) use store::{now, private as private_file, private_folder, replace};
pub use token::Token;
pub(crate) use token::hex;

/// What a caller may do. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks at everything, and changes nothing.
    Viewer,
    /// Switches pipelines on and off, moves canaries, rolls back, loads the files again.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// `viewer`, `operator` or `admin`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut roles = Self::ALL.into_iter();
        roles
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("{text:?} is no role: there are viewer, operator and admin"))
    }
}

/// A caller that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The id of the token or certificate that was shown, which tells two of one name apart.
    pub(crate) credential: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) scope: Scope,
}
