//! Generated sequences of what happens in a mesh, played on a model and on real nodes, and compared after every step. Run by
//! `cargo xtask test model`.

mod known;
mod play;
mod program;
mod rules;
mod steps;
mod world;

use std::{
    cell::RefCell,
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use proptest::{
    strategy::Strategy as _,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use proptest_state_machine::ReferenceStateMachine as _;

use self::{play::Player, steps::Model};

/// How long sequences are begun, where `WEFT_MODEL_SECONDS` does not say.
const SECONDS: u64 = 60;
/// Steps of one sequence.
const STEPS: std::ops::RangeInclusive<usize> = 4..=10;
/// What making a failure smaller may cost.
const SHRINK_TRIES: u32 = 40;
const SHRINK_MS: u32 = 90_000;

#[test]
fn real_nodes_do_what_the_model_says() -> Result<()> {
    let seconds = number("WEFT_MODEL_SECONDS")?.unwrap_or(SECONDS);
    let given = number("WEFT_MODEL_SEED")?;
    let first = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    let player = RefCell::new(Player::start(Duration::from_secs(seconds))?);
    // A seed is given to see its sequences again, and those first.
    if given.is_none() {
        for (what, steps) in known::sequences() {
            player.borrow_mut().play(&steps, None).map_err(|failure| failure.told(&format!("known sequence: {what}"), &steps))?;
        }
    }
    println!("seed {first}");
    let mut seed = first;
    while player.borrow().has_time() {
        generated(&player, seed)?;
        seed += 1;
    }
    println!("{}", player.borrow().summary());
    Ok(())
}

/// One sequence from one seed; a failure is made smaller before it is told.
fn generated(player: &RefCell<Player>, seed: u64) -> Result<()> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { max_shrink_iters: SHRINK_TRIES, max_shrink_time: SHRINK_MS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tree = Model::sequential_strategy(STEPS).new_tree(&mut runner).map_err(|e| anyhow::anyhow!("no sequence from seed {seed}: {e}"))?;
    let last = RefCell::new(None);
    let outcome = runner.run_one(tree, |(_, steps, seen)| {
        player.borrow_mut().play(&steps, seen.as_deref()).map_err(|failure| {
            let reason = TestCaseError::fail(failure.to_string());
            last.replace(Some((failure, steps)));
            reason
        })
    });
    match (outcome, last.take()) {
        (Ok(_), _) => Ok(()),
        // The smallest that failed is the last that did.
        (Err(TestError::Fail(..)), Some((failure, steps))) => {
            Err(failure.told(&format!("the smallest sequence found from seed {seed} (cargo xtask test model --seed {seed})"), &steps))
        }
        (Err(error), _) => bail!("seed {seed}: {error}"),
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    let text = env::var(name).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().with_context(|| format!("{name}={text:?} is no number"))).transpose()
}
