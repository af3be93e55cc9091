//! Texts in, texts out: `luge call text.process '{"input":"hello","transform":"uppercase"}'`.

use luge_udf::procedure;
use serde::{Deserialize, Serialize};

luge_udf::module! { description = "Transforms texts" }

#[derive(Deserialize)]
struct Process<'a> {
    input: &'a str,
    transform: &'a str,
}

#[derive(Serialize)]
struct Processed {
    output: String,
}

#[derive(Serialize)]
struct Unknown<'a> {
    message: &'static str,
    transform: &'a str,
    known: Vec<&'static str>,
}

type Transform = fn(&str) -> String;

const TRANSFORMS: [(&str, Transform); 7] = [
    ("uppercase", str::to_uppercase),
    ("lowercase", str::to_lowercase),
    ("capitalize", capitalize),
    ("reverse", |text| text.chars().rev().collect()),
    ("trim", |text| text.trim().to_owned()),
    ("squeeze", |text| {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }),
    ("slug", slug),
];

/// Applies one transform to a text: uppercase, lowercase, capitalize, reverse, trim, squeeze or slug.
#[procedure(read_only)]
fn process(text: Process<'_>) -> Result<Processed, Unknown<'_>> {
    match TRANSFORMS.iter().find(|(name, _)| *name == text.transform) {
        Some((_, transform)) => Ok(Processed {
            output: transform(text.input),
        }),
        None => Err(Unknown {
            message: "unknown transform",
            transform: text.transform,
            known: TRANSFORMS.iter().map(|(name, _)| *name).collect(),
        }),
    }
}

/// The first letter of each word in upper case.
fn capitalize(text: &str) -> String {
    let mut begins = true;
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        if begins {
            output.extend(character.to_uppercase());
        } else {
            output.push(character);
        }
        begins = character.is_whitespace();
    }
    output
}

/// Letters and digits in lower case, with one hyphen for everything in between.
fn slug(text: &str) -> String {
    let words = text.split(|character: char| !character.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use luge_udf::testing::{Host, Outcome};

    use super::*;

    fn call(input: &str, transform: &str) -> Outcome {
        Host::new().call::<process>(&BTreeMap::from([
            ("input", input),
            ("transform", transform),
        ]))
    }

    #[test]
    fn transforms_a_text() {
        let cases = [
            ("hello", "uppercase", "HELLO"),
            ("Straße", "uppercase", "STRASSE"),
            ("HELLO", "lowercase", "hello"),
            ("a small  sled", "capitalize", "A Small  Sled"),
            ("añb", "reverse", "bña"),
            ("  x ", "trim", "x"),
            (" a \n b  c ", "squeeze", "a b c"),
            ("Hello, World! 2×", "slug", "hello-world-2"),
        ];
        for (input, transform, expected) in cases {
            let reply: BTreeMap<String, String> = call(input, transform).reply();
            assert_eq!(
                reply,
                BTreeMap::from([("output".to_owned(), expected.to_owned())]),
                "{transform}"
            );
        }
    }

    #[test]
    fn an_unknown_transform_is_refused_with_the_known_ones() {
        #[derive(Deserialize)]
        struct Refused {
            transform: String,
            known: Vec<String>,
        }
        let refused: Refused = call("hello", "rot13").refusal();
        assert_eq!(refused.transform, "rot13");
        assert!(refused.known.contains(&"uppercase".to_owned()));
    }

    #[test]
    fn arguments_of_another_shape_are_refused_with_what_is_missing() {
        let outcome = Host::new().call::<process>(&BTreeMap::from([("input", "hello")]));
        assert_eq!(outcome.code(), luge_udf::UNREADABLE_ARGUMENTS);
        assert_eq!(
            outcome.refusal::<String>(),
            "arguments: missing field `transform`"
        );
    }
}
