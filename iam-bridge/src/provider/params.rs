//! Parameters of a query or a form: bounded before they are parsed, each at most once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Request, header};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::limits::provider as limits;

/// Without those that have no value: RFC 6749 section 3.1 treats them as if they were not there.
#[derive(Default)]
pub(super) struct Params {
    values: BTreeMap<String, String>,
    repeated: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum ParamsError {
    #[error("the request is too long")]
    TooLong,
    #[error("the request has too many parameters")]
    TooMany,
    #[error("the request is not written as a form")]
    Form,
    #[error("the request is no text")]
    Text,
}

impl Params {
    pub(super) fn query(query: &str) -> Result<Self, ParamsError> {
        Self::parse(query.as_bytes(), limits::QUERY_MAX_BYTES)
    }

    /// A form may carry a whole query in one of its fields.
    pub(super) fn form(request: &Request<Bytes>) -> Result<Self, ParamsError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(ParamsError::Form);
        }
        Self::parse(request.body(), limits::FORM_MAX_BYTES)
    }

    fn parse(bytes: &[u8], max: usize) -> Result<Self, ParamsError> {
        if bytes.len() > max {
            return Err(ParamsError::TooLong);
        }
        let mut params = Self::default();
        for (count, (name, value)) in form_urlencoded::parse(bytes).enumerate() {
            if count >= limits::PARAMS_MAX {
                return Err(ParamsError::TooMany);
            }
            // What is no UTF-8 was replaced by this; a NUL is in no parameter that means anything.
            if [&name, &value].iter().any(|text| text.contains(['\u{fffd}', '\0'])) {
                return Err(ParamsError::Text);
            }
            if value.is_empty() {
                continue;
            }
            if params.values.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                params.repeated.insert(name.into_owned());
            }
        }
        Ok(params)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Those that were given more than once, which makes a request invalid (RFC 6749 section 3.1).
    pub(super) fn repeated(&self) -> &BTreeSet<String> {
        &self.repeated
    }

    /// The same as a query.
    pub(super) fn to_query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.values).finish()
    }

    /// For a value that is a secret.
    pub(super) fn take(&mut self, name: &str) -> Zeroizing<String> {
        Zeroizing::new(self.values.remove(name).unwrap_or_default())
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        self.values.values_mut().for_each(|v| v.zeroize());
    }
}

/// `uri` with these parameters behind it; it has no fragment, which the configuration sees to.
pub(super) fn with_params<'p>(uri: &str, params: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    match (query.is_empty(), uri.contains('?')) {
        (true, _) => uri.to_owned(),
        (false, true) => format!("{uri}&{query}"),
        (false, false) => format!("{uri}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_come_before_meaning() {
        let long = "a".repeat(limits::QUERY_MAX_BYTES - 2);
        let many = |n: usize| (0..n).map(|i| format!("p{i}=1&")).collect::<String>();
        let query = |text: &str| Params::query(text).err();
        assert_eq!(query(&format!("a={long}")), None);
        assert_eq!(query(&format!("a={long}b")), Some(ParamsError::TooLong));
        assert_eq!(query(&many(limits::PARAMS_MAX)), None);
        assert_eq!(query(&many(limits::PARAMS_MAX + 1)), Some(ParamsError::TooMany));
        assert_eq!(query("a=%ff"), Some(ParamsError::Text));
        assert_eq!(query("a=%00"), Some(ParamsError::Text));
    }

    #[test]
    fn a_form_says_that_it_is_one_and_is_bounded() {
        let form = |kind: &str, body: String| {
            let request = Request::builder().header(header::CONTENT_TYPE, kind).body(Bytes::from(body)).unwrap();
            Params::form(&request).map(|p| p.get("a").map(str::to_owned))
        };
        assert_eq!(form("application/x-www-form-urlencoded; charset=utf-8", "a=b%20c".into()), Ok(Some("b c".into())));
        assert_eq!(form("application/json", "a=b".into()), Err(ParamsError::Form));
        assert_eq!(form("application/x-www-form-urlencoded", format!("a={}", "b".repeat(limits::FORM_MAX_BYTES))), Err(ParamsError::TooLong));
    }

    #[test]
    fn what_is_empty_is_absent_and_what_is_twice_is_known() {
        let params = Params::query("a=&b=1&c=2&c=2").unwrap();
        assert_eq!((params.get("a"), params.get("b")), (None, Some("1")));
        assert_eq!(params.repeated().iter().collect::<Vec<_>>(), ["c"]);
        assert!(Params::query("a=&a=").unwrap().repeated().is_empty());
    }

    #[test]
    fn parameters_stand_behind_what_an_address_has() {
        assert_eq!(with_params("https://a/b", [("c", "d e"), ("f", "&")]), "https://a/b?c=d+e&f=%26");
        assert_eq!(with_params("https://a/b?x=1", [("c", "d")]), "https://a/b?x=1&c=d");
        assert_eq!(with_params("https://a/b", []), "https://a/b");
    }
}
