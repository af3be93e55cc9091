//! Accounts, and money that moves between them or stays where it is.
//!
//! ```sh
//! luge call bank.open     '{"account":"anna","deposit":100}'
//! luge call bank.transfer '{"from":"anna","to":"ben","amount":30}'
//! luge call bank.balance  '"anna"'
//! ```
//!
//! A balance is a whole number of the smallest unit, under `bank:<account>`. The two writes of a transfer are one
//! transaction: after a refusal there is neither. The hook lets nobody change a balance from outside.

use luge_udf::kv::{self, NotANumber};
use luge_udf::{Block, RefusalCode, hook, procedure};
use serde::{Deserialize, Serialize};

luge_udf::module! { description = "Accounts that money moves between" }

const PREFIX: &str = "bank:";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open<'a> {
    account: &'a str,
    #[serde(default)]
    deposit: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer<'a> {
    from: &'a str,
    to: &'a str,
    amount: i64,
}

#[derive(Serialize)]
struct Receipt {
    /// What is left on the account that paid.
    from_balance: i64,
    to_balance: i64,
}

#[derive(Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum Refused<'a> {
    UnknownAccount { account: &'a str },
    AccountExists { account: &'a str },
    AmountNotPositive { amount: i64 },
    InsufficientFunds { balance: i64, amount: i64 },
    SameAccount { account: &'a str },
    BalanceOverflow { account: &'a str },
    BalanceUnreadable,
}

impl RefusalCode for Refused<'_> {
    fn code(&self) -> i32 {
        match self {
            Self::UnknownAccount { .. } => 10,
            Self::AccountExists { .. } => 11,
            Self::AmountNotPositive { .. } => 12,
            Self::InsufficientFunds { .. } => 13,
            Self::SameAccount { .. } => 14,
            Self::BalanceOverflow { .. } => 15,
            Self::BalanceUnreadable => 16,
        }
    }
}

impl From<NotANumber> for Refused<'_> {
    fn from(_: NotANumber) -> Self {
        Self::BalanceUnreadable
    }
}

/// Opens an account, with a deposit if one is given, and returns its balance.
#[procedure]
fn open(open: Open<'_>) -> Result<i64, Refused<'_>> {
    let Open { account, deposit } = open;
    if deposit < 0 {
        return Err(Refused::AmountNotPositive { amount: deposit });
    }
    if kv::exists(key(account)) {
        return Err(Refused::AccountExists { account });
    }
    kv::set_number(key(account), deposit);
    Ok(deposit)
}

/// Moves an amount from one account to another, or refuses and moves nothing.
#[procedure]
fn transfer(transfer: Transfer<'_>) -> Result<Receipt, Refused<'_>> {
    let Transfer { from, to, amount } = transfer;
    if amount <= 0 {
        return Err(Refused::AmountNotPositive { amount });
    }
    if from == to {
        return Err(Refused::SameAccount { account: from });
    }
    let from_balance = read(from)?;
    let to_balance = read(to)?;
    if from_balance < amount {
        return Err(Refused::InsufficientFunds {
            balance: from_balance,
            amount,
        });
    }
    let Some(to_balance) = to_balance.checked_add(amount) else {
        return Err(Refused::BalanceOverflow { account: to });
    };
    let from_balance = from_balance - amount;
    kv::set_number(key(from), from_balance);
    kv::set_number(key(to), to_balance);
    Ok(Receipt {
        from_balance,
        to_balance,
    })
}

/// Returns the balance of an account.
#[procedure(read_only)]
fn balance(account: &str) -> Result<i64, Refused<'_>> {
    read(account)
}

/// Balances are changed by these procedures alone, never by a plain command.
#[hook(request, commands = "set, del, expire", prefix = "bank:")]
fn guard() -> Result<(), Block> {
    Err("balances change through bank.open and bank.transfer alone".into())
}

fn key(account: &str) -> String {
    [PREFIX, account].concat()
}

fn read(account: &str) -> Result<i64, Refused<'_>> {
    kv::number(key(account))?.ok_or(Refused::UnknownAccount { account })
}

#[cfg(test)]
mod tests {
    use luge_udf::testing::{Answer, Exchange, Host, Outcome};

    use super::*;

    #[derive(Serialize)]
    struct Move {
        from: &'static str,
        to: &'static str,
        amount: i64,
    }

    #[derive(Serialize)]
    struct New {
        account: &'static str,
        deposit: i64,
    }

    #[derive(Deserialize)]
    struct Reason {
        reason: String,
    }

    fn bank() -> Host {
        let mut host = Host::new();
        assert_eq!(
            host.call::<open>(&New {
                account: "anna",
                deposit: 100
            })
            .reply::<i64>(),
            100
        );
        assert_eq!(
            host.call::<open>(&New {
                account: "ben",
                deposit: 5
            })
            .reply::<i64>(),
            5
        );
        host
    }

    fn pay(host: &mut Host, from: &'static str, to: &'static str, amount: i64) -> Outcome {
        host.call::<transfer>(&Move { from, to, amount })
    }

    #[test]
    fn a_transfer_moves_money() {
        let mut host = bank();
        let (from, to): (i64, i64) = {
            #[derive(Deserialize)]
            struct Receipt {
                from_balance: i64,
                to_balance: i64,
            }
            let receipt: Receipt = pay(&mut host, "anna", "ben", 30).reply();
            (receipt.from_balance, receipt.to_balance)
        };
        assert_eq!((from, to), (70, 35));
        assert_eq!(host.text("bank:anna").as_deref(), Some("70"));
        assert_eq!(host.call::<balance>("ben").reply::<i64>(), 35);
    }

    #[test]
    fn refusals_say_why_and_leave_no_trace() {
        let mut host = bank();
        host.set("bank:rich", i64::MAX.to_string());
        host.set("bank:odd", "a lot");
        let before = host.entries("");
        let cases = [
            ("anna", "ben", 101, 13, "insufficient_funds"),
            ("anna", "carl", 1, 10, "unknown_account"),
            ("carl", "anna", 1, 10, "unknown_account"),
            ("anna", "ben", 0, 12, "amount_not_positive"),
            ("anna", "ben", -5, 12, "amount_not_positive"),
            ("anna", "anna", 1, 14, "same_account"),
            ("anna", "rich", 1, 15, "balance_overflow"),
            ("odd", "anna", 1, 16, "balance_unreadable"),
        ];
        for (from, to, amount, code, reason) in cases {
            let outcome = pay(&mut host, from, to, amount);
            assert_eq!(outcome.code(), code, "{reason}");
            assert_eq!(outcome.refusal::<Reason>().reason, reason);
        }
        assert_eq!(host.entries(""), before);
    }

    #[test]
    fn an_account_is_opened_once() {
        let mut host = bank();
        assert_eq!(
            host.call::<open>(&New {
                account: "anna",
                deposit: 1
            })
            .code(),
            11
        );
        assert_eq!(
            host.call::<open>(&New {
                account: "carl",
                deposit: -1
            })
            .code(),
            12
        );
        assert_eq!(host.text("bank:anna").as_deref(), Some("100"));
    }

    /// An account was opened with nothing in it where the deposit's name was misspelt.
    #[test]
    fn a_field_that_there_is_not_is_refused() {
        #[derive(Serialize)]
        struct Misspelt {
            account: &'static str,
            depost: i64,
        }
        let mut host = bank();
        let (account, depost) = ("carl", 5);
        let outcome = host.call::<open>(&Misspelt { account, depost });
        assert_ne!(outcome.code(), 0);
        assert_eq!(host.text("bank:carl"), None);
    }

    #[test]
    fn a_balance_cannot_be_set_from_outside() {
        let mut host = bank();
        let hooked = host.hook::<guard>(&Exchange::set("bank:anna", "1000000"));
        assert!(matches!(hooked.answer, Answer::Block(_)));
        assert!(!host.hook::<guard>(&Exchange::set("other", "1")).ran);
    }
}
