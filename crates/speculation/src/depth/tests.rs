//! The formula against published figures, and the policy in simulated settings whose best depth is known.

use super::*;
use crate::noise::{Noise, Role};

/// A text and a machine: conditional acceptance by position and seconds by depth.
#[derive(Clone, Copy)]
struct Setting {
    acceptance: &'static [f64],
    /// By depth, 0 included: one more than `acceptance`.
    seconds: &'static [f64],
}

impl Setting {
    fn max_depth(&self) -> usize {
        self.acceptance.len()
    }

    fn rate(&self, depth: usize) -> f64 {
        expected_emitted(&self.acceptance[..depth]) / self.seconds[depth]
    }

    fn best(&self) -> usize {
        (0..=self.max_depth()).max_by(|&a, &b| self.rate(a).total_cmp(&self.rate(b))).unwrap()
    }

    fn accepted(&self, depth: usize, round: u64, noise: &Noise) -> usize {
        let stays = |place: &usize| noise.uniform(round * 16 + *place as u64, Role::Accept) < self.acceptance[*place];
        (0..depth).take_while(stays).count()
    }

    /// A clock with 5 % of noise and, once in fifty rounds, something else that takes the machine.
    fn time(&self, depth: usize, round: u64, noise: &Noise) -> f64 {
        let jitter = 0.95 + 0.1 * noise.uniform(round, Role::Draft);
        let hiccup = if noise.uniform(round, Role::Residual) < 0.02 { 5.0 } else { 1.0 };
        self.seconds[depth] * jitter * hiccup
    }
}

/// What a simulation saw.
struct Run {
    /// Rounds by depth.
    depths: Vec<usize>,
    /// Expected tokens over expected seconds of the chosen depths: the luck of the draw taken out.
    rate: f64,
}

fn simulate(policy: &mut DepthPolicy, setting: &Setting, rounds: u64, seed: u64) -> Run {
    let noise = Noise::new(seed);
    let (mut tokens, mut seconds) = (0.0, 0.0);
    let mut depths = vec![0; setting.max_depth() + 1];
    for round in 0..rounds {
        let depth = policy.next_depth();
        let accepted = setting.accepted(depth, round, &noise);
        policy.observe(depth, depth.min(accepted + 1), accepted, setting.time(depth, round, &noise));
        depths[depth] += 1;
        tokens += expected_emitted(&setting.acceptance[..depth]);
        seconds += setting.seconds[depth];
    }
    Run { depths, rate: tokens / seconds }
}

/// Settings of every kind, each with its best depth.
const SETTINGS: [(&str, Setting, usize); 9] = [
    // The published production figures: conditional .976/.975/.925, C(3) = 1.70.
    ("27B, M5 Max", Setting { acceptance: &[0.976, 0.975, 0.925], seconds: &[0.020, 0.025, 0.0295, 0.034] }, 3),
    ("thinking-on coding", Setting { acceptance: &[0.75, 0.65, 0.55], seconds: &[0.020, 0.0225, 0.025, 0.0275] }, 3),
    ("one draft pays", Setting { acceptance: &[0.8, 0.3, 0.2], seconds: &[1.0, 1.3, 1.6, 1.9] }, 1),
    ("two pay", Setting { acceptance: &[0.85, 0.75, 0.3, 0.2], seconds: &[1.0, 1.3, 1.6, 1.9, 2.2] }, 2),
    ("never pays: verify is linear", Setting { acceptance: &[0.8, 0.7, 0.6], seconds: &[1.0, 2.0, 3.0, 4.0] }, 0),
    ("never pays: a broken head", Setting { acceptance: &[0.02, 0.02, 0.02], seconds: &[1.0, 1.2, 1.4, 1.6] }, 0),
    (
        "deep and cheap",
        Setting {
            acceptance: &[0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95],
            seconds: &[1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4],
        },
        8,
    ),
    // Another kernel for two rows and more: depth 1 loses, deeper ones win.
    ("a step, then flat", Setting { acceptance: &[0.6, 0.7, 0.7, 0.7], seconds: &[1.0, 1.65, 1.67, 1.69, 1.71] }, 4),
    // Flat up to a tile of four rows, then twice as much.
    (
        "flat, then a step",
        Setting { acceptance: &[0.9, 0.9, 0.9, 0.9, 0.9], seconds: &[1.0, 1.1, 1.15, 1.2, 2.2, 2.3] },
        3,
    ),
];

#[test]
fn the_design_examples_come_out() {
    // Cumulative .976/.952/.881 of the model card gives E = 3.81; 2.24 times plain decoding implies C(3) = 1.70.
    let conditional = [0.976, 0.952 / 0.976, 0.881 / 0.952];
    let emitted = expected_emitted(&conditional);
    assert!((emitted - 3.81).abs() < 0.005, "{emitted}");
    assert!((emitted / 2.24 - 1.70).abs() < 0.005);
    // With c_v = 1.1 and a cheap draft step the same head gives 3.3.
    assert!((emitted / round_cost(3, 1.1, 0.018, 0.0) - 3.3).abs() < 0.01);
    // E = 2.52 has a ceiling of about 2.4 where verifying four rows costs 1.05.
    assert!((2.52 / round_cost(3, 1.05, 0.0, 0.0) - 2.4).abs() < 0.001);
    assert_eq!((expected_emitted(&[]), round_cost(0, 1.0, 9.0, 0.0)), (1.0, 1.0));
}

#[test]
fn fixed_stays() {
    let mut policy = DepthPolicy::Fixed(3);
    policy.observe(3, 1, 0, 100.0);
    assert_eq!((policy.next_depth(), policy.max_depth()), (3, 3));
}

#[test]
fn finds_the_best_depth_and_loses_little_on_the_way() {
    for (name, setting, best) in SETTINGS {
        assert_eq!(setting.best(), best, "{name}: the example itself");
        for (start, seed) in (1..=setting.max_depth()).flat_map(|start| (0..10).map(move |seed| (start, seed))) {
            let mut policy = DepthPolicy::adaptive_from(start, setting.max_depth());
            let run = simulate(&mut policy, &setting, 4_000, seed);
            let share = run.rate / setting.rate(best);
            let name = format!("{name} from {start}");
            assert!(share > 0.95, "{name}, seed {seed}: {share:.3} of the best, rounds by depth {:?}", run.depths);
            let late = simulate(&mut policy, &setting, 2_000, seed + 100);
            let good: usize = (0..late.depths.len())
                .filter(|&k| setting.rate(k) > 0.97 * setting.rate(best))
                .map(|k| late.depths[k])
                .sum();
            assert!(good > 1_500, "{name}, seed {seed}: {good} good rounds of {:?}", late.depths);
        }
    }
}

#[test]
fn short_answers_lose_little_too() {
    for (name, setting, best) in SETTINGS {
        for start in 1..=setting.max_depth() {
            let shares = (0..20).map(|seed| {
                let mut policy = DepthPolicy::adaptive_from(start, setting.max_depth());
                simulate(&mut policy, &setting, 100, seed).rate / setting.rate(best)
            });
            let mean = shares.sum::<f64>() / 20.0;
            // From beyond a step in the costs it takes trials to get back.
            let least = if start <= best.max(1) { 0.90 } else { 0.85 };
            assert!(mean > least, "{name} from {start}: {mean:.3}");
        }
    }
}

#[test]
fn begins_where_it_is_told() {
    for (start, max, first) in [(3, 8, 3), (0, 8, 1), (9, 2, 2), (3, 0, 0)] {
        let mut policy = DepthPolicy::adaptive_from(start, max);
        assert_eq!((policy.next_depth(), policy.max_depth()), (first, max));
    }
}

#[test]
fn follows_a_change_of_text_and_of_machine() {
    let code = Setting { acceptance: &[0.95, 0.9, 0.9], seconds: &[1.0, 1.2, 1.4, 1.6] };
    let prose = Setting { acceptance: &[0.1, 0.1, 0.1], ..code };
    let busy = Setting { seconds: &[1.0, 2.2, 3.4, 4.6], ..code };
    for seed in 0..10 {
        let mut policy = DepthPolicy::adaptive(3);
        for (place, setting) in [code, prose, code, busy, code].into_iter().enumerate() {
            // At k = 0 only trials tell that drafting pays again: some hundred rounds.
            simulate(&mut policy, &setting, 1_000, seed * 10 + place as u64);
            let settled = simulate(&mut policy, &setting, 500, seed * 10 + place as u64 + 5);
            let share = settled.rate / setting.rate(setting.best());
            assert!(share > 0.93, "seed {seed}, part {place}: {share:.3}, rounds by depth {:?}", settled.depths);
        }
    }
}

#[test]
fn trials_stay_within_their_budget() {
    for (name, setting, _) in SETTINGS {
        let mut policy = Adaptive::new(setting.max_depth());
        let noise = Noise::new(1);
        for round in 0..4_000 {
            let depth = policy.next_depth();
            let accepted = setting.accepted(depth, round, &noise);
            policy.observe(depth, depth.min(accepted + 1), accepted, setting.time(depth, round, &noise));
            assert!(policy.lost <= EXPLORATION * policy.seconds, "{name}, round {round}");
        }
        assert!(policy.trials > 10, "{name}: only {} trials", policy.trials);
    }
}

#[test]
fn a_first_round_that_compiles_is_forgotten() {
    let mut policy = DepthPolicy::adaptive(2);
    let setting = Setting { acceptance: &[0.9, 0.9], seconds: &[1.0, 1.1, 1.2] };
    let mut seen = [false; 3];
    let noise = Noise::new(0);
    for round in 0..200 {
        let depth = policy.next_depth();
        let compiling = !std::mem::replace(&mut seen[depth], true);
        let accepted = setting.accepted(depth, round, &noise);
        let seconds = if compiling { 500.0 } else { setting.seconds[depth] };
        policy.observe(depth, depth.min(accepted + 1), accepted, seconds);
    }
    let late = simulate(&mut policy, &setting, 200, 0);
    assert!(late.depths[2] > 150, "{:?}", late.depths);
}

#[test]
fn costs_measured_at_load_spare_the_first_rounds() {
    let mut policy = Adaptive::new(3);
    for (depth, seconds) in [1.0, 2.5, 4.0, 5.5].into_iter().enumerate() {
        (0..2).for_each(|_| policy.observe_cost(depth, seconds));
    }
    assert_eq!(policy.next_depth(), 0, "no acceptance below 1 pays for that");
}

#[test]
fn clipped_rounds_and_odd_clocks_do_no_harm() {
    let mut policy = DepthPolicy::adaptive(2);
    for seconds in [f64::NAN, f64::INFINITY, 0.0, -1.0, 1.0] {
        policy.observe(1, 1, 0, seconds);
        policy.observe(9, 9, 9, seconds);
        assert!(policy.next_depth() <= 2);
    }
    let mut nothing = DepthPolicy::adaptive(0);
    for _ in 0..50 {
        assert_eq!(nothing.next_depth(), 0);
        nothing.observe(0, 0, 0, 1.0);
    }
}

#[test]
fn rounds_that_paid_for_something_else_still_tell_acceptance() {
    let broken = Setting { acceptance: &[0.05], seconds: &[1.0, 1.3] };
    let good = Setting { acceptance: &[0.95], ..broken };
    let mut policy = DepthPolicy::adaptive(1);
    assert!(simulate(&mut policy, &broken, 1_000, 1).depths[0] > 850);
    // Every first draft after plain decoding comes with a backlog, whose cost is not the depth's.
    let noise = Noise::new(2);
    let (mut before, mut drafted) = (0, 0);
    for round in 0..1_000 {
        let depth = policy.next_depth();
        let accepted = good.accepted(depth, round, &noise);
        let backlog = depth > 0 && before == 0;
        let seconds = if backlog { f64::NAN } else { good.seconds[depth] };
        policy.observe(depth, depth.min(accepted + 1), accepted, seconds);
        (before, drafted) = (depth, drafted + depth);
    }
    assert!(drafted > 700, "{drafted}");
}

#[test]
fn the_same_past_gives_the_same_depths() {
    let setting = SETTINGS[0].1;
    let mut policy = DepthPolicy::adaptive(3);
    simulate(&mut policy, &setting, 500, 3);
    let mut twin = policy.clone();
    assert_eq!(simulate(&mut policy, &setting, 500, 4).depths, simulate(&mut twin, &setting, 500, 4).depths);
}
