//! A leaderboard: the best score of every player, and who leads.
//!
//! ```sh
//! luge call leaderboard.submit '{"board":"run","player":"anna","score":420}'
//! luge call leaderboard.top    '{"board":"run","count":3}'
//! luge call leaderboard.rank   '{"board":"run","player":"anna"}'
//! ```
//!
//! ```text
//! leaderboard:<board>:player:<player>          the best score, as a number
//! leaderboard:<board>:score:<order>:<player>   empty; <order> sorts the highest score first
//! ```
//!
//! `top` is one scan over as many keys as it returns. `rank` walks over everyone who is better, up to a thousand.

use luge_udf::kv::{self, NotANumber};
use luge_udf::procedure;
use serde::{Deserialize, Serialize};

luge_udf::module! { description = "The best score of every player, in order" }

/// As much as one answer holds, and as far as a rank is counted.
const MAX_COUNT: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submit<'a> {
    board: &'a str,
    player: &'a str,
    score: i64,
}

#[derive(Serialize)]
struct Submitted {
    best: i64,
    /// Whether this was a new best score.
    improved: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top<'a> {
    board: &'a str,
    #[serde(default = "ten")]
    count: usize,
}

const fn ten() -> usize {
    10
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Player<'a> {
    board: &'a str,
    player: &'a str,
}

#[derive(Serialize)]
struct Place {
    rank: usize,
    player: String,
    score: i64,
}

#[derive(Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum Refused<'a> {
    BoardWithColon { board: &'a str },
    UnknownPlayer { player: &'a str },
    RankBeyond { limit: usize },
    ScoreUnreadable,
}

impl From<NotANumber> for Refused<'_> {
    fn from(_: NotANumber) -> Self {
        Self::ScoreUnreadable
    }
}

/// Records a score, which counts if it is the player's best.
#[procedure]
fn submit(submit: Submit<'_>) -> Result<Submitted, Refused<'_>> {
    let Submit {
        board,
        player,
        score,
    } = submit;
    check(board)?;
    let key = player_key(board, player);
    if let Some(best) = kv::number(&key)? {
        if best >= score {
            return Ok(Submitted {
                best,
                improved: false,
            });
        }
        kv::delete(score_key(board, best, player));
    }
    kv::set_number(&key, score);
    kv::set(score_key(board, score, player), "");
    Ok(Submitted {
        best: score,
        improved: true,
    })
}

/// Lists the best players of a board, ten unless a count is given.
#[procedure(read_only)]
fn top(top: Top<'_>) -> Result<Vec<Place>, Refused<'_>> {
    check(top.board)?;
    let prefix = scores(top.board);
    let keys = kv::prefix(&prefix).limit(top.count.min(MAX_COUNT)).keys();
    let places = keys.enumerate().filter_map(|(index, key)| {
        let (order, player) = key
            .strip_prefix(prefix.as_bytes())?
            .split_at_checked(ORDER_BYTES)?;
        let player = String::from_utf8_lossy(player.strip_prefix(b":")?).into_owned();
        Some(Place {
            rank: index + 1,
            player,
            score: score_of(order)?,
        })
    });
    Ok(places.collect())
}

/// Returns a player's rank and best score.
#[procedure(read_only)]
fn rank(asked: Player<'_>) -> Result<Place, Refused<'_>> {
    let Player { board, player } = asked;
    check(board)?;
    let score = kv::number(player_key(board, player))?.ok_or(Refused::UnknownPlayer { player })?;
    let better = kv::range(scores(board)..score_key(board, score, player))
        .limit(MAX_COUNT)
        .keys()
        .count();
    if better == MAX_COUNT {
        return Err(Refused::RankBeyond { limit: MAX_COUNT });
    }
    Ok(Place {
        rank: better + 1,
        player: player.to_owned(),
        score,
    })
}

/// A colon would let one board reach into another's keys.
fn check(board: &str) -> Result<(), Refused<'_>> {
    if board.contains(':') {
        Err(Refused::BoardWithColon { board })
    } else {
        Ok(())
    }
}

fn player_key(board: &str, player: &str) -> String {
    ["leaderboard:", board, ":player:", player].concat()
}

fn scores(board: &str) -> String {
    ["leaderboard:", board, ":score:"].concat()
}

fn score_key(board: &str, score: i64, player: &str) -> String {
    [&scores(board), &order_of(score), ":", player].concat()
}

const ORDER_BYTES: usize = 16;

/// Sixteen hexadecimal digits that sort the other way round than the scores: the highest score comes first.
fn order_of(score: i64) -> String {
    let order = !(score.cast_unsigned() ^ (1 << 63));
    let digit = |shift: u32| char::from_digit((order >> shift & 0xf) as u32, 16).unwrap_or('0');
    (0..16).rev().map(|index| digit(4 * index)).collect()
}

fn score_of(order: &[u8]) -> Option<i64> {
    let order = u64::from_str_radix(std::str::from_utf8(order).ok()?, 16).ok()?;
    Some((!order ^ (1 << 63)).cast_signed())
}

#[cfg(test)]
mod tests {
    use luge_udf::testing::Host;

    use super::*;

    #[derive(Serialize)]
    struct Score(&'static str, &'static str, i64);

    type Row = (usize, String, i64);

    #[derive(Deserialize)]
    struct Placed {
        rank: usize,
        player: String,
        score: i64,
    }

    fn board() -> Host {
        let mut host = Host::new();
        for (player, score) in [
            ("anna", 10),
            ("ben", -3),
            ("carl", 300),
            ("dora", 10),
            ("anna", 4),
        ] {
            assert_eq!(host.call::<submit>(&Score("run", player, score)).code(), 0);
        }
        assert_eq!(host.call::<submit>(&Score("other", "eve", 1)).code(), 0);
        host
    }

    fn leaders(host: &mut Host, count: usize) -> Vec<Row> {
        let places: Vec<Placed> = host.call::<top>(&("run", count)).reply();
        places
            .into_iter()
            .map(|place| (place.rank, place.player, place.score))
            .collect()
    }

    fn row(rank: usize, player: &str, score: i64) -> Row {
        (rank, player.to_owned(), score)
    }

    #[test]
    fn the_highest_score_leads() {
        let expected = [
            row(1, "carl", 300),
            row(2, "anna", 10),
            row(3, "dora", 10),
            row(4, "ben", -3),
        ];
        assert_eq!(leaders(&mut board(), 10), expected);
        assert_eq!(leaders(&mut board(), 2), expected[..2]);
    }

    #[test]
    fn only_a_better_score_counts() {
        let mut host = board();
        assert_eq!(host.call::<submit>(&Score("run", "ben", 11)).code(), 0);
        assert_eq!(
            leaders(&mut host, 2),
            [row(1, "carl", 300), row(2, "ben", 11)]
        );
        assert_eq!(leaders(&mut host, 10).len(), 4);
    }

    #[test]
    fn a_rank_counts_the_better_ones() {
        let mut host = board();
        let place: Placed = host.call::<rank>(&("run", "ben")).reply();
        assert_eq!((place.rank, place.score), (4, -3));
        assert_eq!(host.call::<rank>(&("run", "eve")).code(), 1);
        assert_eq!(host.call::<rank>(&("run:score", "eve")).code(), 1);
    }

    #[test]
    fn scores_sort_by_their_keys() {
        let scores = [i64::MAX, 300, 1, 0, -1, -300, i64::MIN];
        let orders: Vec<String> = scores.iter().map(|score| order_of(*score)).collect();
        assert!(orders.is_sorted());
        let back: Vec<i64> = orders
            .iter()
            .filter_map(|order| score_of(order.as_bytes()))
            .collect();
        assert_eq!(back, scores);
    }
}
