//! Versions of modules. Guests are those of `support/speaker.rs`: a call of `say` is answered with the
//! version's word three times, by a hook, the procedure, and another hook.

use luge_protocol::Reply;
use luge_server::config::Config;
use luge_server::store::Store;

use crate::support::{Talk, check, check_with, clock, open_memory, runtime, speaker};

fn config() -> Config {
    Config {
        max_instances: 64,
        ..Config::default()
    }
}

/// The bytes that the one module takes.
async fn stored<S: Store>(talk: &mut Talk<S>) -> u64 {
    match talk.request("module.list").await {
        Ok(Reply::Modules(modules)) => modules[0].stored_bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_push_of_other_bytes_makes_a_version_and_puts_it_in_force() {
    check(
        &[],
        "
        > module.push m one
        m version 1: pushed
        > call m.say
        oneoneone
        > module.push m two
        m version 2: pushed, before 1
        > call m.say
        twotwotwo
        > module.list
        m <1 2*
        > info
        modules 1
    ",
    );
}

/// A push of a build whose exports the linker had dropped was put in force with a warning, and the hooks were gone.
#[test]
fn a_push_without_functions_does_not_replace_a_version_with_some_unless_it_is_activated_by_itself()
{
    check(
        &[],
        "
        > module.push m -
        m version 1: pushed
        > module.push m one
        m version 2: pushed, before 1
        > module.push m - --fuel 1000000 --dry-run
        invalid_module: the module has no procedures and no hooks, and version 2, which is in force, has some; …
        > module.push m - --fuel 1000000
        invalid_module: the module has no procedures and no hooks, and version 2, which is in force, has some; …
        > call m.say
        oneoneone
        > module.push m - --fuel 1000000 --inactive
        m version 3, inactive: pushed, before 2
        > module.activate m 3
        m version 3: activated, before 2
    ",
    );
}

#[test]
fn a_push_of_what_is_in_force_changes_nothing_and_says_so() {
    check(
        &[],
        "
        > module.push m one
        m version 1: pushed
        > module.push m one
        m version 1: unchanged, before 1
        > module.push m one --inactive
        m version 1: unchanged, before 1
        > module.list
        m 1*
        > set after x
        v2
    ",
    );
}

#[test]
fn a_push_of_what_is_kept_makes_no_new_version_and_puts_that_one_in_force() {
    check(
        &[],
        "
        > module.push m one
        m version 1: pushed
        > module.push m two
        m version 2: pushed, before 1
        > module.push m one --inactive
        m version 1, inactive: unchanged, before 2
        > call m.say
        twotwotwo
        > module.push m one
        m version 1: activated, before 2
        > call m.say
        oneoneone
        > module.list
        m 1* <2
    ",
    );
}

#[test]
fn settings_belong_to_a_version() {
    check(
        &[],
        "
        > module.push m a --config k=1
        m version 1: pushed
        > module.push m a --config k=2
        m version 2: pushed, before 1
        > call m.setting
        2a
        > module.push m a --config k=2 --fuel 900
        m version 3: pushed, before 2
        > call m.setting
        blocked: the hook m.before_call failed: the function used up its fuel of 900 (`fuel` of its push or call)
        > module.push m a --config k=2 --prefix p
        m version 4: pushed, before 3
        > set k:1 x
        v6
        > get first
        nil
        > module.activate m 2
        m version 2: activated, before 4
        > set k:1 x
        v8
        > get first
        a v8
        > module.rollback m
        m version 4: activated, before 2
        > module.rollback m
        m version 3: activated, before 4
        > call m.setting
        blocked: the hook m.before_call failed: the function used up its fuel of 900 (`fuel` of its push or call)
        > module.activate m 1
        m version 1: activated, before 3
        > call m.setting
        1a
        > module.list
        m 1* 2 <3 4
    ",
    );
}

#[test]
fn a_second_rollback_goes_back_further_and_the_last_one_says_that_there_is_nothing_left() {
    check(
        &[],
        "
        > module.push m one
        m version 1: pushed
        > module.rollback m
        not_found: there is no version to go back to: none that is kept was active before version 1 of the module `m`; there are 1 (active); `luge module activate` (`module.activate`) puts any of them in force
        > module.push m two
        m version 2: pushed, before 1
        > module.push m three
        m version 3: pushed, before 2
        > module.rollback m
        m version 2: activated, before 3
        > call m.say
        twotwotwo
        > module.rollback m
        m version 1: activated, before 2
        > call m.say
        oneoneone
        > module.rollback m
        not_found: there is no version to go back to: none that is kept was active before version 1 of the module `m`, but for those that were rolled back from; there are 3, 2, 1 (active); `luge module activate` (`module.activate`) puts any of them in force
        > call m.say
        oneoneone
        > module.activate m 3
        m version 3: activated, before 1
        > module.activate m 3
        m version 3: unchanged, before 3
        > module.rollback m
        m version 1: activated, before 3
    ",
    );
}

#[test]
fn an_inactive_version_waits_until_it_is_activated() {
    check(
        &[],
        "
        > module.push m one --inactive
        m version 1, inactive: pushed
        > call m.say
        not_found: no procedure `m.say`: no version of the module is active; `luge module activate` (`module.activate`) puts one in force
        > set k:1 x
        v2
        > get first
        nil
        > module.show m
        m version 1, inactive
        > module.rollback m
        not_found: no version of the module `m` is active, nor was one; there are 1; `luge module activate` (`module.activate`) puts any of them in force
        > info
        modules 1
        > module.list
        m 1
        > module.activate m 1
        m version 1: activated
        > call m.say
        oneoneone
        > module.push m two --inactive
        m version 2, inactive: pushed, before 1
        > call m.say
        oneoneone
        > module.show m 2
        m version 2, inactive
        > module.show m
        m version 1
        > module.activate m 2
        m version 2: activated, before 1
        > call m.say
        twotwotwo
    ",
    );
}

#[test]
fn a_dry_run_tells_what_a_push_would_do_and_changes_nothing() {
    check(
        &[],
        "
        > module.push m one --dry-run
        m version 1: pushed, dry run
        > module.list
        nothing
        > call m.say
        not_found: no procedure `m.say`: …
        > module.push m one
        m version 1: pushed
        > module.push m one --dry-run
        m version 1: unchanged, before 1, dry run
        > module.push m two --dry-run
        m version 2: pushed, before 1, dry run
        > module.push m two --dry-run --inactive
        m version 2, inactive: pushed, before 1, dry run
        > module.push m ! --dry-run
        invalid_module: the module `m` can't be registered: …
        > call m.say
        oneoneone
        > module.push m two
        m version 2: pushed, before 1
        > module.push m one --dry-run
        m version 1: activated, before 2, dry run
        > call m.say
        twotwotwo
        > set after x
        v…
    ",
    );
}

#[test]
fn a_push_that_is_refused_changes_nothing() {
    check(
        &[],
        "
        > module.push m one
        m version 1: pushed
        > module.push m !
        invalid_module: the module `m` can't be registered: …
        > module.push m two --fuel 999999999999999
        invalid_module: the limit fuel of 999999999999999 exceeds this server's ceiling of 10000000000 (`max_call_fuel`)
        > module.push new !
        invalid_module: the module `new` can't be registered: …
        > module.list
        m 1*
        > call m.say
        oneoneone
        > set after x
        v…
        > module.push m two
        m version 2: pushed, before 1
    ",
    );
}

#[test]
fn names_and_versions_that_there_are_not_are_answered_with_what_there_is() {
    check(
        &[],
        "
        > module.activate m 1
        not_found: no module `m`; there are none; `luge module push` (`module.push`) registers one
        > module.rollback m
        not_found: no module `m`; there are none; `luge module push` (`module.push`) registers one
        > module.push m one
        m version 1: pushed
        > module.push m two
        m version 2: pushed, before 1
        > module.activate other 1
        not_found: no module `other`; there are m; `luge module push` (`module.push`) registers one
        > module.activate m 3
        not_found: the module `m` has no version 3; there are 2 (active), 1; `luge module list` (`module.list`) shows them
        > module.activate m 0
        not_found: the module `m` has no version 0; there are 2 (active), 1; `luge module list` (`module.list`) shows them
        > module.show m 18446744073709551615
        not_found: the module `m` has no version 18446744073709551615; there are 2 (active), 1; `luge module list` (`module.list`) shows them
        > module.remove other
        not_found: no module `other`; there are m; `luge module push` (`module.push`) registers one
        > module.list
        m <1 2*
    ",
    );
}

#[test]
fn the_oldest_versions_are_dropped_beyond_the_bound() {
    let bounded = |config: &mut Config| config.max_module_versions = 3;
    check_with(
        &[],
        bounded,
        "
        > module.push m one
        m version 1: pushed
        > module.push m two
        m version 2: pushed, before 1
        > module.push m three --inactive
        m version 3, inactive: pushed, before 2
        > module.push m four --inactive --dry-run
        m version 4, inactive: pushed, before 2, dropped [3], dry run
        > module.activate m 3
        m version 3: activated, before 2
        > module.push m four
        m version 4: pushed, before 3, dropped [1]
        > module.list
        m 2 <3 4*
        > module.activate m 1
        not_found: version 1 of the module `m` is no longer kept; there are 4 (active), 3, 2; push it again, and `max_module_versions` tells how many are kept
        > module.push m one
        m version 5: pushed, before 4, dropped [2]
        > call m.say
        oneoneone
        > module.rollback m
        m version 4: activated, before 5
        > module.rollback m
        m version 3: activated, before 4
        > module.rollback m
        not_found: there is no version to go back to: none that is kept was active before version 3 …
    ",
    );
}

#[test]
fn the_bytes_of_all_versions_of_a_module_are_bounded() {
    let one = runtime().block_on(async {
        let mut talk = Talk::new(open_memory(&clock()), &config(), clock()).await;
        talk.request("module.push m one").await.unwrap();
        stored(&mut talk).await
    });
    let binary = speaker("one").len() as u64;
    assert!(one > binary, "{one} bytes with a binary of {binary}");
    let bounded = |config: &mut Config| config.max_module_stored_bytes = 3 * one + one / 2;
    check_with(
        &[],
        bounded,
        "
        > module.push m one
        m version 1: pushed
        > module.push m two
        m version 2: pushed, before 1
        > module.push m six
        m version 3: pushed, before 2
        > module.push m ten
        m version 4: pushed, before 3, dropped [1]
        > module.list
        m 2 <3 4*
    ",
    );
    let too_small = |config: &mut Config| config.max_module_stored_bytes = binary;
    check_with(
        &[],
        too_small,
        "
        > module.push m one
        too_large: the module `m` can't be registered: the versions that must be kept (this one, the active one, and the one that a rollback returns to) take … bytes, which exceeds the limit of … for one module; raise `max_module_stored_bytes`, or remove the module first
        > module.list
        nothing
    ",
    );
}

#[test]
fn a_module_is_removed_with_all_its_versions_and_its_name_begins_anew() {
    check(
        &[],
        "
        > module.push m one
        m version 1: pushed
        > module.push m two
        m version 2: pushed, before 1
        > module.remove m
        ok
        > module.activate m 1
        not_found: no module `m`; there are none; `luge module push` (`module.push`) registers one
        > call m.say
        not_found: no procedure `m.say`: …
        > module.push m two
        m version 1: pushed
        > module.list
        m 1*
        > call m.say
        twotwotwo
    ",
    );
}
