//! Markup of tool calls, family by family: where a call begins, and the markers inside and behind it.

use super::pattern::{Rest, Stop, any_of, blanks, first, literal, optional_opener};
use super::schema::ToolSchema;

pub(super) const THINK: &str = "<think>";
pub(super) const END_THINK: &str = "</think>";

const TOOL_CALL: &str = "<tool_call>";
const END_TOOL_CALL: &str = "</tool_call>";
const MINIMAX_CALLS: &str = "<minimax:tool_call>";
const MINIMAX_END_CALLS: &str = "</minimax:tool_call>";
const DEEPSEEK_CALLS: &str = "<｜tool▁calls▁begin｜>";
const DEEPSEEK_CALL: &str = "<｜tool▁call▁begin｜>";
const DEEPSEEK_SEPARATOR: &str = "<｜tool▁sep｜>";
const DEEPSEEK_END_CALL: &str = "<｜tool▁call▁end｜>";
const DEEPSEEK_END_CALLS: &str = "<｜tool▁calls▁end｜>";
const FENCE: &str = "```";

/// Bytes of an argument's name at most; with more the markup is malformed.
pub(super) const MAX_KEY: usize = 256;

/// Markup of tool calls. The families are named by who introduced them; others use them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>` around `{"name": …, "arguments": {…}}`.
    Hermes,
    /// `<tool_call>` around `<function=NAME>` and `<parameter=KEY>` (Qwen3-Coder, Qwen3.5).
    QwenXml,
    /// `<tool_call>NAME` with `<arg_key>` and `<arg_value>` (GLM-4.5 to 4.7).
    Glm,
    /// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME` and a fenced JSON object.
    DeepSeekV3,
    /// `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>` and a JSON object.
    DeepSeekV31,
    /// `<minimax:tool_call>` around `<invoke name="NAME">` and `<parameter name="KEY">`.
    MiniMax,
}

/// Context in the output where a call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    Reasoning,
    Answer,
    /// Behind another call, with nothing but blanks and end markers in between.
    BehindCall,
}

/// Beginning of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallStart {
    /// Bytes up to the arguments.
    pub(super) length: usize,
    /// Index of the tool; `None` where the name is among the arguments.
    pub(super) tool: Option<usize>,
}

/// Markup with one element an argument.
#[derive(Debug)]
pub(super) struct XmlMarkup {
    pub(super) key_open: &'static str,
    pub(super) key_close: &'static str,
    /// Marker in front of a value, where the key's end is not that marker.
    pub(super) value_open: Option<&'static str>,
    pub(super) value_close: &'static str,
    pub(super) call_close: &'static str,
    /// End marker of the block around the call. It ends a call whose own end marker is missing.
    pub(super) block_close: &'static str,
    /// True if a value stands on lines of its own.
    pub(super) padded: bool,
}

static QWEN: XmlMarkup = XmlMarkup {
    key_open: "<parameter=",
    key_close: ">",
    value_open: None,
    value_close: "</parameter>",
    call_close: "</function>",
    block_close: END_TOOL_CALL,
    padded: true,
};

static GLM: XmlMarkup = XmlMarkup {
    key_open: "<arg_key>",
    key_close: "</arg_key>",
    value_open: Some("<arg_value>"),
    value_close: "</arg_value>",
    call_close: END_TOOL_CALL,
    block_close: END_TOOL_CALL,
    padded: false,
};

static MINIMAX: XmlMarkup = XmlMarkup {
    key_open: "<parameter name=\"",
    key_close: "\">",
    value_open: None,
    value_close: "</parameter>",
    call_close: "</invoke>",
    block_close: MINIMAX_END_CALLS,
    padded: false,
};

impl ToolFormat {
    /// Markup of the arguments; `None` where they are JSON.
    pub(super) fn xml(self) -> Option<&'static XmlMarkup> {
        match self {
            Self::QwenXml => Some(&QWEN),
            Self::Glm => Some(&GLM),
            Self::MiniMax => Some(&MINIMAX),
            Self::Hermes | Self::DeepSeekV3 | Self::DeepSeekV31 => None,
        }
    }

    /// Matches the beginning of a call of one of `tools`, up to its arguments, whose first marker has to follow.
    pub(super) fn opening(self, text: &str, tools: &[ToolSchema], context: Context) -> Result<CallStart, Stop> {
        // Length up to `rest`, which has to begin with one of `next`.
        let until = |rest: &str, next: &[&str]| any_of(rest, next).map(|_| text.len() - rest.len());
        // Openers of a block stand only in front of its first call.
        let block = |opener| match context {
            Context::BehindCall => optional_opener(text, opener),
            Context::Answer | Context::Reasoning => blanks(literal(text, opener)?),
        };
        match self {
            Self::Hermes => {
                let rest = blanks(literal(text, TOOL_CALL)?)?;
                Ok(CallStart { length: until(rest, &["{"])?, tool: None })
            }
            Self::QwenXml => {
                let rest = match context {
                    Context::Reasoning => block(TOOL_CALL)?,
                    // The models leave out the outer marker at times (mlx-lm#1616).
                    Context::Answer | Context::BehindCall => optional_opener(text, TOOL_CALL)?,
                };
                by_name(literal(rest, "<function=")?, tools, |rest| {
                    until(literal(rest, ">")?, &[QWEN.key_open, QWEN.call_close])
                })
            }
            Self::Glm => {
                let rest = blanks(literal(text, TOOL_CALL)?)?;
                by_name(rest, tools, |rest| until(rest, &[GLM.key_open, GLM.call_close]))
            }
            Self::MiniMax => by_name(literal(block(MINIMAX_CALLS)?, "<invoke name=\"")?, tools, |rest| {
                until(literal(rest, "\">")?, &[MINIMAX.key_open, MINIMAX.call_close])
            }),
            Self::DeepSeekV3 => {
                let rest = literal(block(DEEPSEEK_CALLS)?, DEEPSEEK_CALL)?;
                let rest = literal(literal(rest, "function")?, DEEPSEEK_SEPARATOR)?;
                by_name(rest, tools, |rest| {
                    let rest = literal(literal(blanks(rest)?, FENCE)?, "json")?;
                    until(blanks(rest)?, &["{"])
                })
            }
            Self::DeepSeekV31 => by_name(literal(block(DEEPSEEK_CALLS)?, DEEPSEEK_CALL)?, tools, |rest| {
                until(blanks(literal(rest, DEEPSEEK_SEPARATOR)?)?, &["{"])
            }),
        }
    }

    /// Matches an end marker behind a call.
    pub(super) fn closing(self, text: &str) -> Rest<'_> {
        let then = |first, second| literal(blanks(literal(text, first)?)?, second);
        match self {
            // A brace too many is the commonest error of small models.
            Self::Hermes => first([literal(text, END_TOOL_CALL), then("}", END_TOOL_CALL)]),
            Self::QwenXml => first([literal(text, END_TOOL_CALL), then(QWEN.call_close, END_TOOL_CALL)]),
            Self::Glm => literal(text, END_TOOL_CALL),
            Self::MiniMax => literal(text, MINIMAX_END_CALLS),
            Self::DeepSeekV3 => first([
                then(FENCE, DEEPSEEK_END_CALL),
                literal(text, DEEPSEEK_END_CALL),
                literal(text, DEEPSEEK_END_CALLS),
            ]),
            Self::DeepSeekV31 => first([literal(text, DEEPSEEK_END_CALL), literal(text, DEEPSEEK_END_CALLS)]),
        }
    }

    /// Format whose literals `text` has. The text is a template or a rendered call.
    pub(super) fn of_literals(text: &str) -> Option<Self> {
        let has = |literal| text.contains(literal);
        Some(if has(MINIMAX_CALLS) {
            Self::MiniMax
        } else if has(DEEPSEEK_CALL) {
            if has("```json") { Self::DeepSeekV3 } else { Self::DeepSeekV31 }
        } else if has(TOOL_CALL) && has(GLM.key_open) {
            Self::Glm
        } else if has(TOOL_CALL) && has("<function=") {
            Self::QwenXml
        } else if has(TOOL_CALL) && has("\"name\"") {
            Self::Hermes
        } else {
            return None;
        })
    }
}

/// Matches the name of a tool and then what `behind` matches, which gives the opening's length.
fn by_name<'t>(
    text: &'t str,
    tools: &[ToolSchema],
    behind: impl Fn(&'t str) -> Result<usize, Stop>,
) -> Result<CallStart, Stop> {
    // All names are tried, since one can be the beginning of another.
    first(tools.iter().enumerate().filter(|(_, tool)| !tool.name.is_empty()).map(|(index, tool)| {
        let length = behind(literal(text, &tool.name)?)?;
        Ok(CallStart { length, tool: Some(index) })
    }))
}
