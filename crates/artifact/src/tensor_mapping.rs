//! What becomes of an architecture's tensors: rules from the tensors that it expects in a checkpoint to those of an artifact,
//! in the names that mlx-lm 0.32 gives them.
//!
//! A list starts as "everything as it is" ([`Rules::new`]); a family applies the passes that its layout needs. Where a
//! checkpoint is in MLX's layout already, a pass finds nothing to do.

use std::collections::{BTreeMap, btree_map::Entry};

use super::group::{Group, Part};
use crate::Checkpoint;
use crate::expected::{self, Expected};

/// Where an output's numbers come from. The output is seen as matrices `[rows, width]`, one for a tensor of two axes or
/// fewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A tensor's numbers in its own order; the shape may differ.
    Whole(String),
    /// A stored tensor for each matrix.
    Stack(Vec<String>),
    /// Of each `each` stored rows those from `start`, as many as a matrix has.
    Rows {
        /// The tensor.
        tensor: String,
        /// Stored rows a matrix.
        each: usize,
        /// The first that is taken.
        start: usize,
    },
    /// The same, transposed: stored rows become columns.
    Columns {
        /// The tensor.
        tensor: String,
        /// Stored rows a matrix.
        each: usize,
        /// The first that is taken.
        start: usize,
    },
}

impl Source {
    /// The stored tensors.
    pub fn tensors(&self) -> &[String] {
        match self {
            Self::Whole(tensor) | Self::Rows { tensor, .. } | Self::Columns { tensor, .. } => {
                std::slice::from_ref(tensor)
            }
            Self::Stack(tensors) => tensors,
        }
    }
}

/// One output tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name; a matrix that may be packed ends in `.weight`.
    pub output: String,
    /// Its own shape, unpacked.
    pub shape: Vec<usize>,
    /// Where it belongs.
    pub part: Part,
    /// What it is a part of.
    pub group: Group,
    /// Whether MLX has a packed form for its module.
    pub packable: bool,
    /// Where its numbers come from.
    pub source: Source,
    /// True for a norm in the encoding of its part.
    pub is_norm: bool,
    /// True where 1 is added, in f32.
    pub plus_one: bool,
}

impl Rule {
    fn new(expected: &Expected, part: Part) -> Self {
        let (output, shape, packable) = match expected {
            Expected::Tensor { name, shape } => (name.clone(), shape.clone(), false),
            Expected::Norm { name, width } => (name.clone(), vec![*width], false),
            Expected::Module { module, shape } => (format!("{module}.weight"), shape.clone(), true),
        };
        let is_norm = matches!(expected, Expected::Norm { .. });
        let (group, source) = (Group::Other, Source::Whole(output.clone()));
        Self { output, shape, part, group, packable, source, is_norm, plus_one: false }
    }

    /// The module's path: the name without `.weight`.
    pub fn module(&self) -> &str {
        self.output.strip_suffix(".weight").unwrap_or(&self.output)
    }
}

/// What becomes of a checkpoint's tensors.
#[derive(Debug, Clone)]
pub struct Rules {
    trunk: Vec<Expected>,
    head: Vec<Expected>,
    rules: Vec<Rule>,
}

/// MLX's names of an expert's parts, in the order gate, up, down.
const EXPERTS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

impl Rules {
    /// Every expected tensor under its own name.
    pub fn new(trunk: Vec<Expected>, head: Vec<Expected>) -> Self {
        let of = |list: &[Expected], part| list.iter().map(|expected| Rule::new(expected, part)).collect::<Vec<_>>();
        let rules = [of(&trunk, Part::Trunk), of(&head, Part::Head)].concat();
        Self { trunk, head, rules }
    }

    /// The rules, in the order of the model, groups decided.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// What the checkpoint must hold of a part.
    pub fn expected(&self, part: Part) -> &[Expected] {
        match part {
            Part::Trunk => &self.trunk,
            Part::Head => &self.head,
            Part::Vision => &[],
        }
    }

    /// What is missing of a part, by name, and what does not fit.
    pub fn check(&self, checkpoint: &Checkpoint, part: Part) -> (Vec<String>, Vec<String>) {
        expected::check(checkpoint, self.expected(part))
    }

    /// Takes the head of `other` in place of one's own.
    #[must_use]
    pub fn with_head_of(mut self, other: &Self) -> Self {
        self.rules.retain(|rule| rule.part == Part::Trunk);
        self.rules.extend(other.rules.iter().filter(|rule| rule.part == Part::Head).cloned());
        self.head.clone_from(&other.head);
        self
    }

    /// Changes rules one by one.
    #[must_use]
    pub fn each(mut self, mut change: impl FnMut(&mut Rule)) -> Self {
        self.rules.iter_mut().for_each(&mut change);
        self
    }

    /// Replaces rules: what `replace` says nothing of stays.
    #[must_use]
    pub fn replace(mut self, mut replace: impl FnMut(&Rule) -> Option<Vec<Rule>>) -> Self {
        let replaced = |rule: Rule| replace(&rule).unwrap_or_else(|| vec![rule]);
        self.rules = self.rules.into_iter().flat_map(replaced).collect();
        self
    }

    /// Experts as `switch_mlp.{gate,up,down}_proj`, stacked: from numbered ones that call gate, up and down `numbered`, from
    /// `experts.gate_up_proj` with gates first, or from `experts.gate_proj` stacked; the last two may be `switch_mlp`'s.
    #[must_use]
    pub fn stack_experts(mut self, numbered: [&str; 3]) -> Self {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut stacked: Vec<Rule> = Vec::with_capacity(self.rules.len());
        for rule in self.rules {
            let parts = rule.output.split_once(".experts.").or_else(|| rule.output.split_once(".switch_mlp."));
            let Some((mlp, rest)) = parts else {
                stacked.push(rule);
                continue;
            };
            let output = |index: usize| format!("{mlp}.switch_mlp.{}.weight", EXPERTS[index]);
            // A pass before may have renamed the output.
            let stored = rule.source.tensors().to_vec();
            let rest = rest.strip_suffix(".weight").unwrap_or(rest);
            let of = |name: &str| numbered.iter().position(|known| *known == name);
            if let Some((number, name)) = rest.split_once('.')
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && let Some(index) = of(name)
            {
                let output = output(index);
                match places.entry(output.clone()) {
                    Entry::Occupied(place) => {
                        let stack: &mut Rule = &mut stacked[*place.get()];
                        stack.shape[0] += 1;
                        if let Source::Stack(tensors) = &mut stack.source {
                            tensors.extend(stored);
                        }
                    }
                    Entry::Vacant(place) => {
                        place.insert(stacked.len());
                        let source = Source::Stack(stored);
                        stacked.push(Rule { shape: [&[1], &*rule.shape].concat(), output, source, ..rule });
                    }
                }
            } else if rest == "gate_up_proj"
                && let [experts, rows, width] = *rule.shape
                && let [tensor] = &*stored
            {
                for (index, start) in [(0, 0), (1, rows / 2)] {
                    let source = Source::Rows { tensor: tensor.clone(), each: rows, start };
                    let (output, shape) = (output(index), vec![experts, rows / 2, width]);
                    stacked.push(Rule { output, shape, source, packable: true, ..rule.clone() });
                }
            } else if let Some(index) = EXPERTS.iter().position(|name| *name == rest) {
                stacked.push(Rule { output: output(index), packable: true, ..rule });
            } else {
                stacked.push(rule);
            }
        }
        self.rules = stacked;
        self
    }

    /// Decides every rule's group, by its name.
    #[must_use]
    pub fn grouped(self) -> Self {
        self.each(|rule| rule.group = Group::of(&rule.output, rule.part, rule.packable))
    }
}
