//! Chunks against the recurrence that they stand for, one row at a time in f64.

#![expect(clippy::needless_range_loop, clippy::type_complexity, reason = "index notation, as in the formulas")]

use mtplx_runtime::cache::Tape;
use mtplx_runtime::testing::{Rng, host};
use mtplx_runtime::{Array, Result};

use super::{Chunk, DeltaRows, DeltaTape, inverse, run};

const KEY_HEADS: usize = 2;
const GROUP: usize = 2;
const HEADS: usize = KEY_HEADS * GROUP;
const KEY_DIM: usize = 8;
const VALUE_DIM: usize = 6;
const TAPS: usize = 4;
/// Lengths below, at and above the sizes that rows are divided into.
const LENGTHS: [usize; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 63, 64, 65, 130, 200];

/// Rows of every head, in f64: queries and keys `[key head][row][dim]`, the rest `[head][row]`.
struct Rows {
    q: Vec<Vec<Vec<f64>>>,
    k: Vec<Vec<Vec<f64>>>,
    v: Vec<Vec<Vec<f64>>>,
    rate: Vec<Vec<f64>>,
    log_decay: Vec<Vec<f64>>,
    state: Vec<Vec<Vec<f64>>>,
}

impl Rows {
    fn random(n: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut vectors = |heads: usize, dim: usize, unit: bool| -> Vec<Vec<Vec<f64>>> {
            let mut vector = || {
                let x: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
                let length = if unit { x.iter().map(|x| x * x).sum::<f64>().sqrt() } else { 1.0 };
                x.into_iter().map(|x| narrow(x / length)).collect()
            };
            (0..heads).map(|_| (0..n.max(VALUE_DIM)).map(|_| vector()).collect()).collect()
        };
        let (q, k) = (vectors(KEY_HEADS, KEY_DIM, true), vectors(KEY_HEADS, KEY_DIM, true));
        let (v, state) = (vectors(HEADS, VALUE_DIM, false), vectors(HEADS, KEY_DIM, false));
        let mut numbers = |low: f64, high: f64| -> Vec<Vec<f64>> {
            let mut one = || narrow(low + (high - low) * rng.uniform());
            (0..HEADS).map(|_| (0..n).map(|_| one()).collect()).collect()
        };
        let (rate, log_decay) = (numbers(0.0, 1.0), numbers(-0.5, 0.0));
        let cut = |all: Vec<Vec<Vec<f64>>>, n: usize| all.into_iter().map(|rows| rows[..n].to_vec()).collect();
        Self { q: cut(q, n), k: cut(k, n), v: cut(v, n), rate, log_decay, state: cut(state, VALUE_DIM) }
    }

    /// The worst case for the triangular system: one key again and again, rates near 1, nothing forgotten.
    fn repetitive(n: usize) -> Self {
        let mut rows = Self::random(n, 99);
        for keys in &mut rows.k {
            let first = keys[0].clone();
            keys.iter_mut().for_each(|key| key.clone_from(&first));
        }
        rows.rate.iter_mut().flatten().for_each(|rate| *rate = narrow(0.995));
        rows.log_decay.iter_mut().flatten().for_each(|decay| *decay = 0.0);
        rows
    }

    /// Outputs `[head][row][value dim]`, and the states after each row, the first before any: the recurrence as written.
    fn recur(&self) -> (Vec<Vec<Vec<f64>>>, Vec<Vec<Vec<Vec<f64>>>>) {
        let mut outputs = Vec::new();
        let mut states = vec![self.state.clone()];
        states.resize(self.rate[0].len() + 1, self.state.clone());
        for head in 0..HEADS {
            let (queries, keys) = (&self.q[head / GROUP], &self.k[head / GROUP]);
            let mut s = self.state[head].clone();
            let mut output = Vec::new();
            for t in 0..keys.len() {
                let decay = self.log_decay[head][t].exp();
                s.iter_mut().flatten().for_each(|s| *s *= decay);
                for (row, v) in s.iter_mut().zip(&self.v[head][t]) {
                    let u = self.rate[head][t] * (v - dot(row, &keys[t]));
                    row.iter_mut().zip(&keys[t]).for_each(|(s, k)| *s += u * k);
                }
                output.push(s.iter().map(|row| dot(row, &queries[t])).collect());
                states[t + 1][head].clone_from(&s);
            }
            outputs.push(output);
        }
        (outputs, states)
    }

    fn run(&self) -> Result<(Array, Vec<Chunk>)> {
        let n = self.rate[0].len() as i32;
        let [h, r, dk, dv] = [KEY_HEADS, GROUP, KEY_DIM, VALUE_DIM].map(|n| n as i32);
        let qk: Vec<Vec<Vec<f64>>> = self.q.iter().zip(&self.k).flat_map(|(q, k)| [q.clone(), k.clone()]).collect();
        let rows = DeltaRows {
            qk: array(qk.iter().flatten().flatten(), &[h, 2, n, dk]),
            v: array(self.v.iter().flatten().flatten(), &[h, r, n, dv]),
            rate: array(self.rate.iter().flatten(), &[h, r, n]),
            log_decay: array(self.log_decay.iter().flatten(), &[h, r, n]),
        };
        run(array(self.state.iter().flatten().flatten(), &[h, r, dv, dk]), rows)
    }
}

/// The nearest f32: both sides start from the same numbers.
fn narrow(x: f64) -> f64 {
    f64::from(x as f32)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn array<'a>(values: impl Iterator<Item = &'a f64>, shape: &[i32]) -> Array {
    let values: Vec<f32> = values.map(|&value| value as f32).collect();
    Array::from_slice(&values, shape)
}

#[track_caller]
fn assert_close<'a>(what: &str, found: &Array, expected: impl Iterator<Item = &'a f64>, tolerance: f64) {
    let found = host::values(found).unwrap();
    let expected: Vec<f64> = expected.copied().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f64, |scale, value| scale.max(value.abs()));
    for (place, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(found) - expected).abs() / scale;
        assert!(difference <= tolerance, "{what}: {found} at {place}, expected {expected}: off by {difference:e}");
    }
}

#[test]
fn chunks_are_the_recurrence() {
    for n in LENGTHS {
        let rows = Rows::random(n, n as u64);
        let (found, _) = rows.run().unwrap();
        assert_close(&format!("{n} rows"), &found, rows.recur().0.iter().flatten().flatten(), 2e-5);
    }
}

#[test]
fn repeated_keys_lose_no_digits() {
    for n in LENGTHS {
        let rows = Rows::repetitive(n);
        let (found, chunks) = rows.run().unwrap();
        let (outputs, states) = rows.recur();
        assert_close(&format!("{n} rows"), &found, outputs.iter().flatten().flatten(), 2e-5);
        let last = chunks.last().unwrap();
        let state = last.state_after(last.u.dim(2)).unwrap();
        assert_close(&format!("state after {n} rows"), &state, states[n].iter().flatten().flatten(), 2e-5);
    }
}

#[test]
fn the_tape_has_the_state_after_every_row() {
    for n in LENGTHS {
        let rows = Rows::random(n, 1000 + n as u64);
        let (_, chunks) = rows.run().unwrap();
        let conv: Vec<f32> = (0..n + TAPS - 1).map(|row| row as f32).collect();
        let conv_input = Array::from_slice(&conv, &[(n + TAPS - 1) as i32, 1]);
        let tape = DeltaTape { chunks, rows: n, conv_input, taps: TAPS };
        let (_, states) = rows.recur();
        for keep in 1..=n {
            let [state, taps] = <[Array; 2]>::try_from(tape.states_after(keep).unwrap()).unwrap();
            let what = format!("{keep} of {n} rows");
            assert_close(&what, &state, states[keep].iter().flatten().flatten(), 2e-5);
            // The convolution goes on from the last rows kept.
            assert_eq!(host::values(&taps).unwrap(), conv[keep..keep + TAPS - 1], "{what}");
        }
    }
}

#[test]
fn blocked_inverses_are_inverses() {
    for n in [2, 7, 8, 9, 16, 17, 31, 33, 64] {
        for (name, size) in [("small", 0.1), ("of the size of products of unit keys", 1.0)] {
            let mut rng = Rng::new(n as u64);
            let a: Vec<Vec<f64>> = (0..n)
                .map(|t| {
                    (0..n).map(|i| if i < t { narrow(size * (2.0 * rng.uniform() - 1.0) / 3.0) } else { 0.0 }).collect()
                })
                .collect();
            // (I + A) X = I, column by column from the top.
            let mut expected = vec![vec![0.0; n]; n];
            for column in 0..n {
                for row in column..n {
                    let known: f64 = (column..row).map(|i| a[row][i] * expected[i][column]).sum();
                    expected[row][column] = f64::from(u8::from(row == column)) - known;
                }
            }
            let found = inverse(&array(a.iter().flatten(), &[1, 1, n as i32, n as i32])).unwrap();
            assert_close(&format!("{n} rows, {name}"), &found, expected.iter().flatten(), 1e-5);
        }
    }
}
