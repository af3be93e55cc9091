//! Refuses values that are not JSON, and says where.
//!
//! ```sh
//! luge module push json-validator json_validator.wasm --prefix user: --config required=name,mail
//! luge set user:1 '{"name":"Anna",}'
//! error: blocked: the value of user:1 is not JSON: line 1, column 16 (byte 15): expected a name in double quotes
//! ```
//!
//! Keys under `json:` are checked, or under the prefix that is given when the module is pushed. `required` names
//! members, with commas between them, that the outermost object must have.

use luge_udf::{Block, Request, config, decimal, hook};

luge_udf::module! { description = "Refuses values that are not JSON" }

/// Refuses a value that is not JSON, or lacks a required member.
#[hook(request, commands = "set", prefix = "json:")]
fn validate(request: &Request) -> Result<(), Block> {
    let value = request.value().unwrap_or_default();
    let members = match json_text::check(&value) {
        Ok(members) => members,
        Err(problem) => return Err(refusal(request, &value, problem)),
    };
    let required = config::text("required").unwrap_or_default();
    let required = required
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let missing: Vec<&str> = required
        .filter(|name| members.iter().all(|member| member.name != *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err([
        "the value of ",
        &request.key_text(),
        " lacks ",
        &missing.join(", "),
    ]
    .concat()
    .into())
}

fn refusal(request: &Request, value: &[u8], problem: json_text::Problem) -> Block {
    let number = |number: usize| decimal::format(i64::try_from(number).unwrap_or(i64::MAX));
    let (line, column) = problem.line_and_column(value);
    let place = [
        "line ",
        &number(line),
        ", column ",
        &number(column),
        " (byte ",
        &number(problem.offset),
        "): ",
    ];
    [
        "the value of ",
        &request.key_text(),
        " is not JSON: ",
        &place.concat(),
        problem.reason,
    ]
    .concat()
    .into()
}

#[cfg(test)]
mod tests {
    use luge_udf::testing::{Answer, Exchange, Host};

    use super::*;

    fn validated(host: &mut Host, value: &str) -> Answer {
        host.hook::<validate>(&Exchange::set("json:1", value))
            .answer
    }

    #[test]
    fn json_is_let_through() {
        assert_eq!(
            validated(&mut Host::new(), r#"{"name":"Anna","tags":[1,2.5e3,null]}"#),
            Answer::Continue
        );
    }

    #[test]
    fn the_place_of_the_mistake_is_told() {
        let expected = "the value of json:1 is not JSON: line 2, column 8 (byte 9): expected a name in double quotes";
        assert_eq!(
            validated(&mut Host::new(), "{\n\"a\": 1,}"),
            Answer::Block(expected.to_owned())
        );
        let expected =
            "the value of json:1 is not JSON: line 1, column 1 (byte 0): the text ends too early";
        assert_eq!(
            validated(&mut Host::new(), ""),
            Answer::Block(expected.to_owned())
        );
    }

    #[test]
    fn required_members_must_be_there() {
        let mut host = Host::new().with_config("required", "name, mail");
        assert_eq!(
            validated(&mut host, r#"{"mail":"a@b","name":null}"#),
            Answer::Continue
        );
        let expected = "the value of json:1 lacks mail";
        assert_eq!(
            validated(&mut host, r#"{"name":{"mail":1}}"#),
            Answer::Block(expected.to_owned())
        );
        let expected = "the value of json:1 lacks name, mail";
        assert_eq!(
            validated(&mut host, "[]"),
            Answer::Block(expected.to_owned())
        );
    }

    #[test]
    fn other_keys_and_commands_pass_by() {
        let mut host = Host::new();
        assert!(!host.hook::<validate>(&Exchange::set("text:1", "x")).ran);
        assert!(!host.hook::<validate>(&Exchange::del("json:1")).ran);
    }
}
