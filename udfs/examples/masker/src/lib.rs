//! Hides part of what a `get` returns; what is stored stays whole, and functions still see it.
//!
//! ```sh
//! luge module push masker masker.wasm --prefix card:                        # ************1234
//! luge module push masker masker.wasm --prefix user: --config field=iban   # {"name":"Anna","iban":"******5678"}
//! ```
//!
//! `keep_last` is how many characters at the end stay readable, 4 unless it is given. With `field`, the value is JSON,
//! and only that member of the outermost object is hidden, byte by byte in its place; a value of which that cannot be
//! said is hidden whole.

use luge_udf::{Request, Response, config, hook};

luge_udf::module! { description = "Hides all but the last characters of values" }

/// Hides all but the last characters of a value, or of one field of it.
#[hook(response, commands = "get", prefix = "card:")]
fn mask(_request: &Request, response: &mut Response) {
    let Some(value) = response.value() else {
        return;
    };
    let keep_last = config::number("keep_last").unwrap_or(4);
    let keep_last = usize::try_from(keep_last).unwrap_or(0);
    response.set_value(match config::get("field") {
        None => hide(&value, keep_last),
        Some(field) => hide_field(&value, &field, keep_last),
    });
}

/// One asterisk for every hidden character. A value of no more characters than stay is hidden whole: the end of a
/// short secret is the secret.
fn hide(value: &[u8], keep_last: usize) -> Vec<u8> {
    let starts: Vec<usize> = (0..value.len())
        .filter(|index| is_start(value, *index))
        .collect();
    let hidden = if starts.len() > keep_last {
        starts.len() - keep_last
    } else {
        starts.len()
    };
    let kept = starts
        .get(hidden)
        .and_then(|start| value.get(*start..))
        .unwrap_or_default();
    [&vec![b'*'; hidden], kept].concat()
}

/// Whether a UTF-8 character begins here; in other bytes, nearly every one does.
fn is_start(value: &[u8], index: usize) -> bool {
    value.get(index).is_some_and(|byte| byte & 0xc0 != 0x80)
}

/// Hides every member of this name. What is no JSON object is hidden whole: the field may be anywhere in it.
fn hide_field(value: &[u8], field: &[u8], keep_last: usize) -> Vec<u8> {
    let is_object = value.trim_ascii_start().starts_with(b"{");
    let members = match json_text::check(value) {
        Ok(members) if is_object => members,
        _ => return hide(value, 0),
    };
    let mut masked = value.to_vec();
    let hidden = members
        .into_iter()
        .filter(|member| member.name.as_bytes() == field);
    // From the last to the first, so that the places of those before stay right.
    for place in hidden.map(|member| member.value).rev() {
        let shown = masked_member(value.get(place.clone()).unwrap_or_default(), keep_last);
        masked.splice(place, shown);
    }
    masked
}

fn masked_member(value: &[u8], keep_last: usize) -> Vec<u8> {
    match value {
        // An escape cut in two would be no JSON any more.
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => {
            [b"\"", hide(text, keep_last).as_slice(), b"\""].concat()
        }
        // The length of a number or a list may tell something, too.
        _ => b"\"****\"".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use luge_udf::Status;
    use luge_udf::testing::{Exchange, Host};

    use super::*;

    fn masked(mut host: Host, value: &str) -> String {
        host.set("card:1", value);
        let hooked = host.hook::<mask>(&Exchange::get("card:1"));
        assert_eq!(
            host.text("card:1").as_deref(),
            Some(value),
            "what is stored stays whole"
        );
        String::from_utf8(hooked.response.unwrap()).unwrap()
    }

    #[test]
    fn all_but_the_last_characters_are_hidden() {
        assert_eq!(masked(Host::new(), "4111111111111234"), "************1234");
        assert_eq!(masked(Host::new(), "Gänseblümchen"), "*********chen");
        assert_eq!(
            masked(Host::new().with_config("keep_last", "2"), "secret"),
            "****et"
        );
        assert_eq!(
            masked(Host::new().with_config("keep_last", "0"), "secret"),
            "******"
        );
    }

    #[test]
    fn a_short_value_is_hidden_whole() {
        assert_eq!(masked(Host::new(), "1234"), "****");
        assert_eq!(masked(Host::new(), ""), "");
    }

    #[test]
    fn a_field_of_json_is_hidden_in_its_place() {
        let cases = [
            (
                r#"{"name":"Anna", "iban":"DE0012345678"}"#,
                r#"{"name":"Anna", "iban":"********5678"}"#,
            ),
            (
                r#"{"iban":12345678,"n":{"iban":"inner"}}"#,
                r#"{"iban":"****","n":{"iban":"inner"}}"#,
            ),
            (
                r#"{"iban":"a\"bcdefgh","\u0069ban":"12345"}"#,
                r#"{"iban":"****","\u0069ban":"*2345"}"#,
            ),
            (r#"{"name":"Anna"}"#, r#"{"name":"Anna"}"#),
            (r#"["iban"]"#, "********"),
            ("iban 12345", "**********"),
        ];
        for (value, expected) in cases {
            assert_eq!(
                masked(Host::new().with_config("field", "iban"), value),
                expected
            );
        }
    }

    #[test]
    fn there_is_nothing_to_hide_in_an_absent_or_blocked_get() {
        let mut host = Host::new();
        assert_eq!(
            host.hook::<mask>(&Exchange::get("card:2")).status,
            Some(Status::Absent)
        );
        let blocked = host.hook::<mask>(&Exchange::get("card:2").blocked());
        assert_eq!(blocked.response.as_deref(), Some(&b"blocked"[..]));
    }
}
