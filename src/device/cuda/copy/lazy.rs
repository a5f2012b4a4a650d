//! A value that is made at its first use. A failure is final.

#![forbid(unsafe_code)]

/// A value that may be unavailable.
#[derive(Debug, Default)]
pub(super) enum Lazy<T> {
    /// Not made yet.
    #[default]
    Untried,
    /// It could not be made, or was given up after an error.
    Unavailable,
    Ready(Box<T>),
}

impl<T> Lazy<T> {
    /// The value, made by `make` at the first call; `None` from then on if that failed.
    pub(super) fn get_or_make<E>(&mut self, make: impl FnOnce() -> Result<T, E>) -> Option<&mut T> {
        if let Lazy::Untried = self {
            *self = match make() {
                Ok(made) => Lazy::Ready(Box::new(made)),
                Err(_) => Lazy::Unavailable,
            };
        }
        match self {
            Lazy::Ready(made) => Some(made),
            Lazy::Untried | Lazy::Unavailable => None,
        }
    }

    /// Takes the value out, if there is one. It is unavailable from then on.
    pub(super) fn give_up(&mut self) -> Option<Box<T>> {
        match core::mem::replace(self, Lazy::Unavailable) {
            Lazy::Ready(made) => Some(made),
            Lazy::Untried | Lazy::Unavailable => None,
        }
    }
}
