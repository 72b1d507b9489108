//! Tools of a request, and the names that the model knows them by.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::wire::field::Field;
use crate::wire::internal::{Failure, Tool};
use crate::wire::options::not_yet;

/// The property that holds a custom tool's input.
const INPUT: &str = "input";

/// A tool's name as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// The name for the model.
    pub flat: String,
    /// The name that was sent.
    pub name: String,
    /// The namespace that it was sent in.
    pub namespace: Option<String>,
    /// True for a tool that takes raw text.
    pub custom: bool,
}

/// Tools, and their names. The first of one name stays: a model cannot tell two apart.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// Tools for the model.
    pub list: Vec<Tool>,
    /// Names of the tools, those among them that are no longer in the list.
    pub names: Vec<Name>,
    /// Places in `names` by namespace and name.
    places: HashMap<(Option<String>, String), usize>,
    /// Names for the model.
    flat: HashSet<String>,
}

impl Tools {
    /// Adds the tools of a list in OpenAI's shapes: a tool's fields stand in the tool (Responses API), or in an object
    /// of its kind (chat).
    ///
    /// Hosted ones are passed over: nothing here can run them, and agents send them unasked (codex#10635,
    /// llama.cpp#20156).
    pub fn add(&mut self, list: &Field<'_>) -> Result<(), Failure> {
        self.add_in(list, None)
    }

    fn add_in(&mut self, list: &Field<'_>, namespace: Option<&str>) -> Result<(), Failure> {
        for tool in list.items()? {
            tool.object()?;
            let inner = |kind: &str| tool.get(kind).unwrap_or_else(|| tool.clone());
            match (tool.kind()?, namespace) {
                ("" | "function", _) => self.function(&inner("function"), namespace, "parameters")?,
                ("custom", _) => self.custom(&inner("custom"), namespace)?,
                ("namespace", None) => {
                    let name = required_name(&tool)?;
                    tool.opt("tools", |list| self.add_in(list, Some(name)))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a function that takes JSON. `schema` is the field with its arguments' schema.
    ///
    /// `strict` and every other field are taken and not enforced: clients send them unasked.
    pub fn function(&mut self, tool: &Field<'_>, namespace: Option<&str>, schema: &str) -> Result<(), Failure> {
        let mut parameters = tool.opt(schema, Field::object)?.cloned().unwrap_or_default();
        let is_empty = parameters.is_empty();
        if parameters.get("type").is_none_or(Value::is_null) {
            parameters.insert("type".to_owned(), json!("object"));
        }
        if is_empty {
            parameters.insert("properties".to_owned(), json!({}));
        }
        self.push(tool, namespace, Value::Object(parameters), false)
    }

    /// Adds a tool that takes one string.
    fn custom(&mut self, tool: &Field<'_>, namespace: Option<&str>) -> Result<(), Failure> {
        let parameters = json!({
            "type": "object",
            "properties": {INPUT: {"type": "string"}},
            "required": [INPUT],
            "additionalProperties": false,
        });
        self.push(tool, namespace, parameters, true)
    }

    fn push(
        &mut self,
        tool: &Field<'_>,
        namespace: Option<&str>,
        parameters: Value,
        custom: bool,
    ) -> Result<(), Failure> {
        let name = required_name(tool)?.to_owned();
        let description = tool.opt("description", Field::text)?.filter(|text| !text.is_empty()).map(str::to_owned);
        let namespace = namespace.map(str::to_owned);
        let key = (namespace.clone(), name.clone());
        if self.places.contains_key(&key) {
            return Ok(());
        }
        let flat = self.unused(join(namespace.as_deref(), &name));
        self.places.insert(key, self.names.len());
        self.flat.insert(flat.clone());
        self.list.push(Tool { name: flat.clone(), description, parameters, custom });
        self.names.push(Name { flat, name, namespace, custom });
        Ok(())
    }

    /// The name for the model of a tool in the history, which may be gone from the list.
    pub fn flat(&self, namespace: Option<&str>, name: &str) -> String {
        let place = self.places.get(&(namespace.map(str::to_owned), name.to_owned()));
        let known = place.and_then(|&place| self.names.get(place));
        known.map_or_else(|| join(namespace, name), |known| known.flat.clone())
    }

    /// Applies OpenAI's `tool_choice`, or `function_call`, which it replaced.
    pub fn choose(&mut self, choice: &Field<'_>) -> Result<(), Failure> {
        const REMEDY: &str = "send \"auto\" and ask for the call in the prompt";
        match choice.value().as_str() {
            Some("auto") => return Ok(()),
            Some("none") => {
                self.list.clear();
                return Ok(());
            }
            Some("required") => return Err(not_yet(choice, "forced tool calls are", REMEDY)),
            Some(_) => return Err(choice.unexpected("\"auto\" or \"none\"")),
            None => {}
        }
        choice.object()?;
        if choice.kind()? == "allowed_tools" {
            let allowed = choice.get("allowed_tools").unwrap_or_else(|| choice.clone());
            if allowed.opt("mode", Field::text)?.is_none_or(|mode| mode == "auto") {
                return self.retain(&allowed.require("tools", "a list of tools")?);
            }
        }
        Err(not_yet(choice, "forced tool calls are", REMEDY))
    }

    /// Leaves the tools that `allowed`, a list of `{type, name}`, names.
    fn retain(&mut self, allowed: &Field<'_>) -> Result<(), Failure> {
        let mut wanted = HashSet::new();
        for tool in allowed.items()? {
            tool.object()?;
            let inner = tool.get(tool.kind()?).unwrap_or(tool);
            wanted.extend(inner.opt("name", Field::text)?);
        }
        let is_wanted = |name: &Name| {
            wanted.contains(name.name.as_str())
                || name.namespace.as_deref().is_some_and(|namespace| wanted.contains(namespace))
        };
        let kept: HashSet<&str> =
            self.names.iter().filter(|name| is_wanted(name)).map(|name| name.flat.as_str()).collect();
        self.list.retain(|tool| kept.contains(tool.name.as_str()));
        Ok(())
    }

    /// `flat`, with a number behind it where another tool has that name.
    fn unused(&self, flat: String) -> String {
        if !self.flat.contains(&flat) {
            return flat;
        }
        // There are more numbers than names, so one is unused.
        let mut numbered = (2..=self.names.len() + 2).map(|number| format!("{flat}_{number}"));
        numbered.find(|flat| !self.flat.contains(flat)).unwrap_or(flat)
    }
}

/// Arguments of a custom tool's call, as the model wrote them.
pub(crate) fn custom_arguments(input: &str) -> String {
    json!({INPUT: input}).to_string()
}

/// Raw input of a custom tool's call that was not written as asked.
///
/// The string under `input`, else the only string that there is, else the arguments as they are.
pub(crate) fn custom_input(arguments: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(arguments) else { return arguments.to_owned() };
    match &value {
        Value::String(text) => text.clone(),
        Value::Object(object) => match (object.get(INPUT), object.values().next()) {
            (Some(Value::String(text)), _) => text.clone(),
            (None, Some(Value::String(text))) if object.len() == 1 => text.clone(),
            _ => arguments.to_owned(),
        },
        _ => arguments.to_owned(),
    }
}

fn required_name<'a>(tool: &Field<'a>) -> Result<&'a str, Failure> {
    let field = tool.require("name", "the tool's name")?;
    match field.text()? {
        "" => Err(field.unexpected("the tool's name")),
        name => Ok(name),
    }
}

fn join(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}__{name}"))
}
