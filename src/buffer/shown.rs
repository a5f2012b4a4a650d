//! How memory is shown by `Debug`: `Buffer<f32, device> { len: 3 }`.

#![forbid(unsafe_code)]

use core::{any::type_name, fmt};

use crate::location::Location;

/// Writes `name<T, D>`, with the name of the location for `D`. The caller adds the fields with
/// `f.debug_struct("")`.
pub(crate) fn memory<T, D: Location>(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    write!(f, "{name}<{}, {}>", WithoutPaths(type_name::<T>()), D::NAME)
}

/// The name of a type, without the paths of its parts.
struct WithoutPaths(&'static str);

impl fmt::Display for WithoutPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let mut rest = self.0;
        while !rest.is_empty() {
            let (path, more) = rest.split_at(rest.find(|c| !is_path(c)).unwrap_or(rest.len()));
            let (other, more) = more.split_at(more.find(is_path).unwrap_or(more.len()));
            f.write_str(path.rsplit("::").next().unwrap_or(path))?;
            f.write_str(other)?;
            rest = more;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::WithoutPaths;

    #[test]
    fn names_have_no_paths() {
        for (name, short) in [
            (core::any::type_name::<f32>(), "f32"),
            (core::any::type_name::<half::bf16>(), "bf16"),
            (core::any::type_name::<MaybeUninit<half::f16>>(), "MaybeUninit<f16>"),
            (core::any::type_name::<[MaybeUninit<u8>; 4]>(), "[MaybeUninit<u8>; 4]"),
            (core::any::type_name::<(Option<u8>, &str)>(), "(Option<u8>, &str)"),
            ("", ""),
            ("a::b", "b"),
        ] {
            assert_eq!(WithoutPaths(name).to_string(), short);
        }
    }
}
